{{- define "whisper.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{- define "whisper.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else if contains (include "whisper.name" .) .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "whisper.name" .) | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "whisper.serviceName" -}}
{{- default (include "whisper.fullname" .) .Values.service.name -}}
{{- end -}}

{{- define "whisper.secretName" -}}
{{- default (include "whisper.fullname" .) .Values.secrets.existingSecret -}}
{{- end -}}

{{- define "whisper.appConfigMap" -}}
{{- default (printf "%s-app" (include "whisper.fullname" .)) .Values.app.existingConfigMap -}}
{{- end -}}

{{- define "whisper.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "whisper.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "whisper.stateClaim" -}}
{{- default (printf "%s-state" (include "whisper.fullname" .)) .Values.state.persistence.existingClaim -}}
{{- end -}}

{{- define "whisper.modelsClaim" -}}
{{- default (printf "%s-models" (include "whisper.fullname" .)) .Values.model.persistence.existingClaim -}}
{{- end -}}

{{/* Labels of all objects. Takes the root. */}}
{{- define "whisper.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: faster-whisper-api
{{ include "whisper.releaseLabels" . }}
{{- end -}}

{{/* Labels that select all pods of the release. */}}
{{- define "whisper.releaseLabels" -}}
app.kubernetes.io/name: {{ include "whisper.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{/* Labels that select the pods of a component. Takes (dict "root" $ "component" NAME). */}}
{{- define "whisper.selector" -}}
{{ include "whisper.releaseLabels" .root }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{- define "whisper.image" -}}
{{- $image := .Values.image -}}
{{- if $image.digest -}}
{{- printf "%s@%s" $image.repository $image.digest -}}
{{- else if $image.tag -}}
{{- printf "%s:%s" $image.repository $image.tag -}}
{{- else if .Values.model.fetch.enabled -}}
{{- printf "%s:%s" $image.repository .Chart.AppVersion -}}
{{- else -}}
{{- printf "%s:%s-%s" $image.repository .Chart.AppVersion .Values.model.name -}}
{{- end -}}
{{- end -}}

{{/* The storage class of a claim. Takes its `persistence`. */}}
{{- define "whisper.storageClass" -}}
{{- if eq .storageClass "-" }}
storageClassName: ""
{{- else if .storageClass }}
storageClassName: {{ .storageClass | quote }}
{{- end }}
{{- end -}}
