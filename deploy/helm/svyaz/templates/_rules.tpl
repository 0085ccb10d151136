{{- /* The rules of one ratio SLO. dict "name" "gatewayAvailability" "ratio" (its entry in alerts/ratios.yaml) */ -}}
{{- define "svyaz.burn" -}}
{{- $slo := kebabcase .name -}}
{{- range $window := list "5m" "30m" "1h" "6h" "3d" }}
- record: svyaz:burn:rate{{ $window }}
  labels: {slo: {{ $slo }}}
  expr: |
    sum by ({{ $.ratio.by }}) (rate({{ $.ratio.bad }}[{{ $window }}]))
    / sum by ({{ $.ratio.by }}) (rate({{ $.ratio.total }}[{{ $window }}]))
    / on (namespace) group_left () (1 - svyaz:slo_{{ snakecase $.name }} / 100)
{{- end }}
# A month's budget would be gone in two days, or in five.
- alert: {{ .ratio.alert }}
  expr: |
    (svyaz:burn:rate1h{slo="{{ $slo }}"} > 14.4 and svyaz:burn:rate5m{slo="{{ $slo }}"} > 14.4)
    or (svyaz:burn:rate6h{slo="{{ $slo }}"} > 6 and svyaz:burn:rate30m{slo="{{ $slo }}"} > 6)
  for: 2m
  labels: {severity: page}
  annotations: {{- pick .ratio "summary" "description" | toYaml | nindent 4 }}
# Slowly enough for office hours, but the month will not hold.
- alert: {{ .ratio.alert }}
  expr: |
    svyaz:burn:rate3d{slo="{{ $slo }}"} > 1 and svyaz:burn:rate6h{slo="{{ $slo }}"} > 1
  for: 1h
  labels: {severity: ticket}
  annotations: {{- pick .ratio "summary" "description" | toYaml | nindent 4 }}
{{- end }}

{{- /* Every rule group: objectives from the values, burn rates, and the plain files in alerts/. */ -}}
{{- define "svyaz.groups" -}}
{{- $where := dict "namespace" .Release.Namespace -}}
# The objectives as series: the rules in alerts/ stay plain Prometheus files, and dashboards can draw the line.
- name: svyaz-objectives
  rules:
    {{- range $slo, $objective := .Values.slo }}
    - record: svyaz:slo_{{ snakecase $slo }}
      labels: {{- toYaml $where | nindent 8 }}
      expr: vector({{ $objective }})
    {{- end }}
    {{- range $name, $service := .Values.services }}
    - record: svyaz:expected
      labels: {{- merge (dict "service" (include "svyaz.name" (dict "root" $ "name" $name))) $where | toYaml | nindent 8 }}
      expr: vector(1)
    {{- end }}
    # In the group of their objectives, because a group is evaluated in order.
    {{- range $name, $ratio := .Files.Get "alerts/ratios.yaml" | fromYaml }}
    {{- include "svyaz.burn" (dict "name" $name "ratio" $ratio) | nindent 4 }}
    {{- end }}
{{- range $path, $content := .Files.Glob "alerts/*.rules.yaml" }}
{{ ($.Files.Get $path | fromYaml).groups | toYaml }}
{{- end }}
{{- end }}
