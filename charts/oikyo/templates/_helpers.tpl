{{- define "oikyo.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "oikyo.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" }}
{{- else if contains (include "oikyo.name" .) .Release.Name }}
{{- .Release.Name | trunc 52 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "oikyo.name" .) | trunc 52 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "oikyo.selectorLabels" -}}
app.kubernetes.io/name: {{ include "oikyo.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: operator
{{- end }}

{{- define "oikyo.labels" -}}
{{ include "oikyo.selectorLabels" . }}
app.kubernetes.io/part-of: oikyo
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "oikyo.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "oikyo.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- required "serviceAccount.create is false: serviceAccount.name must name the account to use" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- /* "repository:tag" or "repository@digest"; takes (dict "image" ... "default" tag). */}}
{{- define "oikyo.image" -}}
{{- if .image.digest -}}
{{ .image.repository }}@{{ .image.digest }}
{{- else -}}
{{ .image.repository }}:{{ .image.tag | default .default }}
{{- end }}
{{- end }}

{{- /* The namespaces that are served, as JSON {"names": [...]}; empty when all of them are. */}}
{{- define "oikyo.namespaces" -}}
{{- if eq .Values.scope "Cluster" }}
{{- if .Values.watchNamespaces }}
{{- fail "scope is Cluster, which serves every namespace: leave watchNamespaces empty, or set scope to Namespaced" }}
{{- end }}
{{- dict "names" list | toJson }}
{{- else }}
{{- dict "names" (default (list .Release.Namespace) .Values.watchNamespaces | uniq) | toJson }}
{{- end }}
{{- end }}

{{- /* "true" when an object of the Prometheus operator is wanted; takes (dict "root" $ "enabled" ... ). */}}
{{- define "oikyo.monitored" -}}
{{- if or (eq .enabled "Always") (and (eq .enabled "Auto") (.root.Capabilities.APIVersions.Has "monitoring.coreos.com/v1")) -}}
true
{{- end }}
{{- end }}

{{- /* A namespaceSelector of the Prometheus operator; takes the list of names, empty for all. */}}
{{- define "oikyo.monitoredNamespaces" -}}
{{- if . -}}
matchNames:
  {{- toYaml . | nindent 2 }}
{{- else -}}
any: true
{{- end }}
{{- end }}
