{{- /* The name of a service's objects. dict "root" $ "name" "catalog" */ -}}
{{- define "svyaz.name" -}}
{{ printf "%s-%s" .root.Release.Name .name | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- /* What finds the pods of a service. */ -}}
{{- define "svyaz.selector" -}}
app.kubernetes.io/name: {{ .root.Chart.Name }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .name }}
{{- end }}

{{- define "svyaz.labels" -}}
{{ include "svyaz.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | quote }}
{{- end }}

{{- define "svyaz.image" -}}
{{ printf "%s%s:%s" .root.Values.image.prefix .service.image (.root.Values.image.tag | default .root.Chart.AppVersion) }}
{{- end }}

{{- /* host:port of a called service: the headless name resolves to every pod. */ -}}
{{- define "svyaz.address" -}}
{{ printf "%s.%s.svc.%s:8080" (include "svyaz.name" .) .root.Release.Namespace .root.Values.clusterDomain }}
{{- end }}

{{- /* The environment that is no secret. */ -}}
{{- define "svyaz.config" -}}
{{- $values := .root.Values -}}
SVYAZ_SERVICE: {{ .name }}
HOST: 0.0.0.0
PORT: "8080"
METRICS_PORT: "9090"
LOG_LEVEL: {{ .service.logLevel }}
MAX_CONCURRENT_CALLS: {{ .service.maxConcurrentCalls | quote }}
OIDC_ISSUER: {{ $values.oidc.issuer }}
OIDC_JWKS_URL: {{ $values.oidc.jwksUrl }}
OIDC_AUDIENCE: {{ $values.oidc.audience }}
OIDC_ALGORITHM: {{ $values.oidc.algorithm }}
{{- if .service.secrets.oidc }}
SERVICE_TOKEN_URL: {{ $values.oidc.tokenUrl }}
{{- end }}
{{- with $values.otlp.endpoint }}
OTEL_EXPORTER_OTLP_ENDPOINT: {{ . }}
{{- end }}
{{- if .service.callbacks }}
HUB_ALLOW_PRIVATE_CALLBACKS: {{ $values.hub.allowPrivateCallbacks | quote }}
{{- end }}
{{- with .service.volume }}
{{ .variable }}: {{ .path }}
{{- end }}
{{- with .service.bucket }}
{{- if $.service.volume }}{{ fail (printf "%s has a volume and a bucket: set one of them to null" $.name) }}{{ end }}
{{ .variable }}: {{ .url }}
{{- range $key, $value := .env }}
{{ $key }}: {{ $value | quote }}
{{- end }}
{{- end }}
{{- range .service.calls }}
{{- if not (hasKey $values.services .) }}{{ fail (printf "%s calls %s, which is not among the services" $.name .) }}{{ end }}
{{ upper . | replace "-" "_" }}_ADDRESS: {{ include "svyaz.address" (dict "root" $.root "name" .) }}
{{- end }}
{{- range $key, $value := .service.env }}
{{ $key }}: {{ $value | quote }}
{{- end }}
{{- end }}

{{- /* One variable out of a Secret. dict "variable" "secret" "key" */ -}}
{{- define "svyaz.secret" -}}
- name: {{ .variable }}
  valueFrom:
    secretKeyRef: {name: {{ .secret | quote }}, key: {{ .key }}}
{{- end }}

{{- define "svyaz.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "svyaz.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}
