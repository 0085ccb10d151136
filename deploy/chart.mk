# Tools for the chart and the images of the services; the Makefile includes it.

TOOLS := var/tools
CONTAINER ?= docker
IMAGES := catalog customers orders gateway cli
TAG ?= 0.1.0
BUILD_ARGS ?=

$(TOOLS)/stamp: deploy/tools.py deploy/tools.txt | $(VENV)/requirements.stamp
	@echo "Fetching helm, promtool and prometheus into $(TOOLS) …" >&2
	@rm -rf $(TOOLS)/bin
	@python deploy/tools.py $(TOOLS)/bin >&2
	@touch $@

.PHONY: chart-tools
chart-tools: $(TOOLS)/stamp

# The tests in tests/deploy run these tools.
chart test: chart-tools

.PHONY: images
images: $(IMAGES:%=image-%) ## an image per service: CONTAINER=podman TAG=0.1.0

.PHONY: $(IMAGES:%=image-%)
$(IMAGES:%=image-%): image-%:
	$(CONTAINER) build $(BUILD_ARGS) --build-arg SERVICE=$* $(if $(filter cli,$*),--build-arg FOLDER=cli) \
	    --tag svyaz-$*:$(TAG) --file deploy/Dockerfile .
