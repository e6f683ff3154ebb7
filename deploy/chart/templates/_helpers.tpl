{{- define "mirror.name" -}}
{{- if contains "mirror" .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-mirror" .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end }}

{{- define "mirror.selector" -}}
app.kubernetes.io/name: mirror
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "mirror.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{ include "mirror.selector" . }}
{{- end }}

{{- define "mirror.config" -}}
max_size = {{ .Values.maxSize | quote }}
shutdown_grace = {{ .Values.shutdownGrace }}
{{ with .Values.config }}
{{ . }}
{{- end }}
{{- end }}

{{- /* All probes ask the daemon by its control socket, whatever it listens on: by HTTP, the kubelet
has no certificate for `client_ca`. A full disk must not take it out of the Service. */ -}}
{{- define "mirror.alive" -}}
exec:
  command: [mirror, healthcheck]
{{- end }}
