{{/* The address of NATS, or nothing. */}}
{{- define "whisper.nats" -}}
{{- if .Values.nats.enabled -}}
{{- printf "nats://%s-nats.%s.svc:4222" (include "whisper.fullname" .) .Release.Namespace -}}
{{- else -}}
{{- .Values.nats.external.url -}}
{{- end -}}
{{- end -}}

{{/* The bucket of InfluxDB as --stats-store takes it, or nothing. */}}
{{- define "whisper.statsStore" -}}
{{- $address := .Values.influxdb.external.url | trimSuffix "/" -}}
{{- if .Values.influxdb.enabled -}}
{{- $address = printf "influxdb://%s-influxdb.%s.svc:8086" (include "whisper.fullname" .) .Release.Namespace -}}
{{- end -}}
{{- if $address -}}
{{- printf "%s?org=%s&bucket=%s" $address (urlquery .Values.influxdb.org) (urlquery .Values.influxdb.bucket) -}}
{{- end -}}
{{- end -}}

{{- define "whisper.adminExposed" -}}
{{- if or .Values.admin.exposed .Values.metrics.serviceMonitor.enabled -}}true{{- end -}}
{{- end -}}

{{/* A variable from the Secret. Takes (dict "root" $ "name" VARIABLE "key" KEY "given" WHETHER). One of an existing Secret may be absent. */}}
{{- define "whisper.secretVariable" -}}
{{- $existing := .root.Values.secrets.existingSecret -}}
{{- if or .given $existing }}
- name: {{ .name }}
  valueFrom:
    secretKeyRef:
      name: {{ include "whisper.secretName" .root }}
      key: {{ .key }}
      {{- if not .required }}
      optional: true
      {{- end }}
{{- end }}
{{- end -}}
