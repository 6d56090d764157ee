{{/*
The template of a host's pods. Takes (dict "root" $ "component" "api" or "worker" "role" ROLE "state" VOLUME), where VOLUME is the
source of the volume with the state, or empty if the workload adds it.
*/}}
{{- define "whisper.pod" -}}
{{- $root := .root -}}
{{- $values := $root.Values -}}
{{- $settings := index $values .component -}}
{{- $fullname := include "whisper.fullname" $root -}}
{{- $image := include "whisper.image" $root -}}
{{- $hasModel := ne .role "http" -}}
{{- $fetches := and $hasModel $values.model.fetch.enabled -}}
{{- $gpu := and $hasModel $values.gpu.enabled -}}
{{- $nats := include "whisper.nats" $root -}}
{{- $store := include "whisper.statsStore" $root -}}
metadata:
  labels:
    {{- include "whisper.labels" $root | nindent 4 }}
    app.kubernetes.io/component: {{ .component }}
    whisper-host/admin: "true"
    {{- if $values.istio.enabled }}
    sidecar.istio.io/inject: "true"
    {{- end }}
    {{- with $settings.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  annotations:
    # Settings and secrets are read at the start only, unlike spin.toml, which is not part of this.
    checksum/config: {{ toJson $values.config | sha256sum }}
    checksum/secrets: {{ toJson $values.secrets | sha256sum }}
    {{- if $values.istio.enabled }}
    proxy.istio.io/config: '{"holdApplicationUntilProxyStarts": true}'
    {{- end }}
    {{- if $values.linkerd.enabled }}
    linkerd.io/inject: enabled
    # In NATS the server speaks first.
    config.linkerd.io/opaque-ports: "4222"
    {{- end }}
    {{- with $settings.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "whisper.serviceAccountName" $root }}
  automountServiceAccountToken: false
  enableServiceLinks: false
  # The host's own time, that before SIGTERM, and 15 s to hand over the last calls.
  terminationGracePeriodSeconds: {{ add $settings.shutdownTimeoutSeconds $settings.drainSeconds 15 }}
  {{- with $values.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $settings.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  {{- if and $gpu $values.gpu.runtimeClassName }}
  runtimeClassName: {{ $values.gpu.runtimeClassName }}
  {{- end }}
  securityContext:
    {{- toYaml $values.podSecurityContext | nindent 4 }}
    runAsUser: {{ $values.user }}
    runAsGroup: {{ $values.user }}
    fsGroup: {{ $values.user }}
    fsGroupChangePolicy: OnRootMismatch
  {{- if $fetches }}
  initContainers:
    {{- range $index, $wanted := splitList "," $values.model.name }}
    {{- $name := regexReplaceAll "^[^/.=]+=" (trim $wanted) "" }}
    {{- if not (hasPrefix "/" $name) }}
    - name: fetch-model-{{ $index }}
      image: {{ $image | quote }}
      imagePullPolicy: {{ $values.image.pullPolicy }}
      workingDir: {{ $values.paths.workdir }}
      command:
        - {{ $values.paths.binary | quote }}
        - models
        - pull
        - {{ $name | quote }}
        - --precision
        - {{ ternary "fp16" $values.model.precision (and $gpu (eq $values.model.precision "auto")) }}
      env:
        - name: HOME
          value: /tmp
        - name: HF_HUB_CACHE
          value: /models
        {{- with $values.model.fetch.endpoint }}
        - name: HF_ENDPOINT
          value: {{ . | quote }}
        {{- end }}
        {{- include "whisper.secretVariable" (dict "root" $root "name" "HF_TOKEN" "key" "hf-token" "given" $values.secrets.hfToken) | nindent 8 }}
      resources:
        {{- toYaml $values.model.fetch.resources | nindent 8 }}
      securityContext:
        {{- toYaml $values.securityContext | nindent 8 }}
      volumeMounts:
        - {name: models, mountPath: /models}
        - {name: tmp, mountPath: /tmp}
    {{- end }}
    {{- end }}
  {{- end }}
  containers:
    - name: whisper-host
      image: {{ $image | quote }}
      imagePullPolicy: {{ $values.image.pullPolicy }}
      workingDir: {{ $values.paths.workdir }}
      command: [{{ $values.paths.binary | quote }}, up]
      ports:
        - {name: http, containerPort: 8000, protocol: TCP}
        - {name: admin, containerPort: {{ $values.admin.port }}, protocol: TCP}
      env:
        - name: HOME
          value: /tmp
        - name: WHISPER_HOST_LISTEN
          value: 0.0.0.0:8000
        - name: WHISPER_HOST_ADMIN_LISTEN
          value: {{ ternary "0.0.0.0" "127.0.0.1" (eq (include "whisper.adminExposed" $root) "true") }}:{{ $values.admin.port }}
        {{- include "whisper.secretVariable" (dict "root" $root "name" "WHISPER_HOST_ADMIN_TOKEN" "key" "admin-token" "given" true "required" true) | nindent 8 }}
        - name: WHISPER_HOST_FROM
          value: /etc/whisper-host/app/spin.toml
        - name: WHISPER_HOST_CONFIG
          value: /etc/whisper-host/config/runtime-config.toml
        - name: WHISPER_HOST_WATCH
          value: {{ $values.app.watch | quote }}
        - name: WHISPER_HOST_ROLE
          value: {{ .role }}
        - name: WHISPER_HOST_STATE_DIR
          value: /state/host
        - name: WHISPER_HOST_SHUTDOWN_TIMEOUT
          value: {{ $settings.shutdownTimeoutSeconds }}s
        - name: WHISPER_HOST_ONNXRUNTIME
          value: {{ $values.paths.onnxruntime | quote }}
        {{- if $hasModel }}
        - name: WHISPER_HOST_MODEL
          value: {{ $values.model.name | quote }}
        - name: WHISPER_HOST_MODELS
          value: {{ $values.paths.models | quote }}
        - name: WHISPER_HOST_PRECISION
          value: {{ $values.model.precision }}
        - name: WHISPER_HOST_DEVICE
          value: {{ ternary "cuda" "cpu" $gpu }}
        # The model is in the image, or was fetched.
        - name: HF_HUB_OFFLINE
          value: "1"
        {{- if $fetches }}
        - name: HF_HUB_CACHE
          value: /models
        {{- end }}
        {{- end }}
        {{- if $nats }}
        - name: WHISPER_HOST_NATS
          value: {{ $nats | quote }}
        {{- include "whisper.secretVariable" (dict "root" $root "name" "WEBHOOK_SECRET" "key" "webhook-secret" "given" true) | nindent 8 }}
        {{- include "whisper.secretVariable" (dict "root" $root "name" "NATS_TOKEN" "key" "nats-token" "given" (or $values.nats.enabled $values.secrets.natsToken) "required" $values.nats.enabled) | nindent 8 }}
        {{- with $values.nats.external.user }}
        - name: WHISPER_HOST_NATS_USER
          value: {{ . | quote }}
        {{- include "whisper.secretVariable" (dict "root" $root "name" "NATS_PASSWORD" "key" "nats-password" "given" true "required" true) | nindent 8 }}
        {{- end }}
        {{- if $values.nats.external.credsSecret }}
        - name: WHISPER_HOST_NATS_CREDS
          value: /etc/whisper-host/nats-creds/nats.creds
        {{- end }}
        {{- if $values.nats.external.tlsSecret }}
        - name: WHISPER_HOST_NATS_CA
          value: /etc/whisper-host/nats-tls/ca.crt
        {{- if $values.nats.external.clientCertificate }}
        - name: WHISPER_HOST_NATS_CERT
          value: /etc/whisper-host/nats-tls/tls.crt
        - name: WHISPER_HOST_NATS_KEY
          value: /etc/whisper-host/nats-tls/tls.key
        {{- end }}
        {{- end }}
        {{- end }}
        {{- if $store }}
        - name: WHISPER_HOST_STATS_STORE
          value: {{ $store | quote }}
        {{- include "whisper.secretVariable" (dict "root" $root "name" "INFLUX_TOKEN" "key" "influxdb-token" "given" true "required" true) | nindent 8 }}
        {{- end }}
        {{- if $values.app.registrySecret }}
        - name: DOCKER_CONFIG
          value: /etc/whisper-host/registry
        {{- end }}
        {{- with $settings.extraEnv }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      {{- with $settings.extraEnvFrom }}
      envFrom:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with $settings.probes }}
      startupProbe:
        httpGet: {path: /healthz, port: http}
        {{- toYaml .startup | nindent 8 }}
      livenessProbe:
        httpGet: {path: /healthz, port: http}
        {{- toYaml .liveness | nindent 8 }}
      readinessProbe:
        httpGet: {path: /readyz, port: http}
        {{- toYaml .readiness | nindent 8 }}
      {{- end }}
      {{- if $settings.drainSeconds }}
      lifecycle:
        # Until no more requests are sent to this pod: the host stops accepting connections at SIGTERM.
        preStop:
          sleep: {seconds: {{ $settings.drainSeconds }}}
      {{- end }}
      {{- $resources := deepCopy $settings.resources }}
      {{- if $gpu }}
      {{- $resources = mergeOverwrite $resources (dict "limits" (dict $values.gpu.resource $values.gpu.count)) }}
      {{- end }}
      resources:
        {{- toYaml $resources | nindent 8 }}
      securityContext:
        {{- toYaml $values.securityContext | nindent 8 }}
      volumeMounts:
        # Folders, not subPath: only these follow changes of their ConfigMap.
        - {name: app, mountPath: /etc/whisper-host/app, readOnly: true}
        - {name: config, mountPath: /etc/whisper-host/config, readOnly: true}
        - {name: state, mountPath: /state}
        - {name: tmp, mountPath: /tmp}
        {{- if $fetches }}
        - {name: models, mountPath: /models}
        {{- end }}
        {{- if $values.nats.external.credsSecret }}
        - {name: nats-creds, mountPath: /etc/whisper-host/nats-creds, readOnly: true}
        {{- end }}
        {{- if $values.nats.external.tlsSecret }}
        - {name: nats-tls, mountPath: /etc/whisper-host/nats-tls, readOnly: true}
        {{- end }}
        {{- if $values.app.registrySecret }}
        - {name: registry, mountPath: /etc/whisper-host/registry, readOnly: true}
        {{- end }}
        {{- with $settings.extraVolumeMounts }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
  volumes:
    - name: app
      configMap: {name: {{ include "whisper.appConfigMap" $root }}}
    - name: config
      configMap: {name: {{ $fullname }}-config}
    - name: tmp
      emptyDir: {sizeLimit: 1Gi}
    {{- with .state }}
    - name: state
      {{- . | nindent 6 }}
    {{- end }}
    {{- if $fetches }}
    - name: models
      {{- if $values.model.persistence.enabled }}
      persistentVolumeClaim: {claimName: {{ include "whisper.modelsClaim" $root }}}
      {{- else }}
      emptyDir: {sizeLimit: {{ $values.model.emptyDirSize }}}
      {{- end }}
    {{- end }}
    {{- with $values.nats.external.credsSecret }}
    - name: nats-creds
      secret: {secretName: {{ . }}}
    {{- end }}
    {{- with $values.nats.external.tlsSecret }}
    - name: nats-tls
      secret: {secretName: {{ . }}}
    {{- end }}
    {{- with $values.app.registrySecret }}
    - name: registry
      secret:
        secretName: {{ . }}
        items:
          - {key: .dockerconfigjson, path: config.json}
    {{- end }}
    {{- with $settings.extraVolumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- $nodes := deepCopy $settings.nodeSelector }}
  {{- $tolerations := $settings.tolerations }}
  {{- if $gpu }}
  {{- $nodes = mergeOverwrite $nodes $values.gpu.nodeSelector }}
  {{- $tolerations = concat $tolerations $values.gpu.tolerations }}
  {{- end }}
  {{- with $nodes }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $settings.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- if $settings.topologySpread }}
  topologySpreadConstraints:
    {{- range $settings.topologySpread }}
    - {{- toYaml . | nindent 6 }}
      labelSelector:
        matchLabels:
          {{- include "whisper.selector" (dict "root" $root "component" $.component) | nindent 10 }}
    {{- end }}
  {{- end }}
{{- end -}}
