{{/* What the schema cannot express: settings that exclude or need each other. */}}
{{- define "whisper.check" -}}
{{- $values := .Values -}}
{{- $nats := include "whisper.nats" . -}}
{{- if and $values.nats.enabled $values.nats.external.url -}}
{{- fail "nats.enabled and nats.external.url exclude each other: choose the NATS of this chart or yours" -}}
{{- end -}}
{{- if and $values.influxdb.enabled $values.influxdb.external.url -}}
{{- fail "influxdb.enabled and influxdb.external.url exclude each other: choose the InfluxDB of this chart or yours" -}}
{{- end -}}
{{- if and $values.influxdb.external.url (not $values.secrets.influxdbToken) (not $values.secrets.existingSecret) -}}
{{- fail "influxdb.external.url needs a token: set secrets.influxdbToken, or secrets.existingSecret with the key influxdb-token" -}}
{{- end -}}
{{- if and $values.nats.external.user (not $values.secrets.natsPassword) (not $values.secrets.existingSecret) -}}
{{- fail "nats.external.user needs a password: set secrets.natsPassword, or secrets.existingSecret with the key nats-password" -}}
{{- end -}}
{{- if and $values.nats.external.user $values.nats.external.credsSecret -}}
{{- fail "nats.external.user and nats.external.credsSecret exclude each other" -}}
{{- end -}}
{{- if and $values.nats.external.clientCertificate (not $values.nats.external.tlsSecret) -}}
{{- fail "nats.external.clientCertificate needs nats.external.tlsSecret, with tls.crt and tls.key" -}}
{{- end -}}
{{- if and $values.worker.enabled (not $nats) -}}
{{- fail "worker.enabled needs NATS: set nats.enabled=true, or nats.external.url to yours, such as nats://my-nats.default.svc.cluster.local:4222" -}}
{{- end -}}
{{- if $values.keda.enabled -}}
{{- if not $values.worker.enabled -}}
{{- fail "keda.enabled scales the workers: set worker.enabled=true" -}}
{{- end -}}
{{- if $values.worker.autoscaling.enabled -}}
{{- fail "keda.enabled and worker.autoscaling.enabled exclude each other: both would scale the workers" -}}
{{- end -}}
{{- if and (eq $values.keda.scaler "prometheus") (not $values.keda.prometheus) -}}
{{- fail "keda.scaler=prometheus needs keda.prometheus, such as http://prometheus.monitoring.svc:9090" -}}
{{- end -}}
{{- if and (eq $values.keda.scaler "nats-jetstream") (not $values.nats.enabled) (not $values.keda.natsMonitoring) -}}
{{- fail "keda.enabled with your own NATS needs keda.natsMonitoring, such as my-nats-headless.default.svc.cluster.local:8222" -}}
{{- end -}}
{{- end -}}
{{- $several := or $values.api.autoscaling.enabled (gt (int $values.api.replicas) 1) -}}
{{- if and $several (eq $values.api.kind "Deployment") $values.state.persistence.enabled -}}
{{- fail "only one host uses a state folder at a time: for several replicas set api.kind=StatefulSet, a volume for each, or state.persistence.enabled=false" -}}
{{- end -}}
{{- if and (eq $values.api.kind "StatefulSet") $values.state.persistence.existingClaim -}}
{{- fail "state.persistence.existingClaim is for api.kind=Deployment: a StatefulSet has a volume for each replica" -}}
{{- end -}}
{{- range list $values.api.autoscaling $values.worker.autoscaling $values.keda -}}
{{- if gt (int .minReplicas) (int .maxReplicas) -}}
{{- fail "minReplicas must not be larger than maxReplicas" -}}
{{- end -}}
{{- end -}}
{{- if $values.model.fetch.enabled -}}
{{- $pods := or $values.worker.enabled $several -}}
{{- if and $values.model.persistence.enabled $pods (not (has "ReadWriteMany" $values.model.persistence.accessModes)) -}}
{{- fail "several pods share the volume of models: set model.persistence.accessModes=[ReadWriteMany] with a storage class that supports it, or model.persistence.enabled=false" -}}
{{- end -}}
{{- else if and (not $values.image.tag) (not $values.image.digest) (not (has $values.model.name (list "base" "tiny.en"))) -}}
{{- fail (printf "there is no image with the model %s: set model.fetch.enabled=true, model.name to base or tiny.en, or image.tag to an image of yours" $values.model.name) -}}
{{- end -}}
{{- if and $values.gpu.enabled (not $values.image.tag) (not $values.image.digest) -}}
{{- fail "gpu.enabled needs an image with the CUDA build of ONNX Runtime: set image.tag" -}}
{{- end -}}
{{- if and $values.istio.enabled $values.linkerd.enabled -}}
{{- fail "istio.enabled and linkerd.enabled exclude each other" -}}
{{- end -}}
{{- if and $values.istio.virtualService.enabled (not $values.istio.enabled) -}}
{{- fail "istio.virtualService.enabled needs istio.enabled" -}}
{{- end -}}
{{- $own := dict "listen" "service" "admin-listen" "admin" "admin-token" "secrets.adminToken" "from" "app" "watch" "app.watch" "role" "worker.enabled" "state-dir" "state" "model" "model.name" "models" "paths.models" "precision" "model.precision" "device" "gpu" "onnxruntime" "paths.onnxruntime" "shutdown-timeout" "api.shutdownTimeoutSeconds and worker.shutdownTimeoutSeconds" "nats" "nats" "nats-user" "nats.external.user" "nats-creds" "nats.external.credsSecret" "nats-ca" "nats.external.tlsSecret" "nats-cert" "nats.external.tlsSecret" "nats-key" "nats.external.tlsSecret" "stats-store" "influxdb" -}}
{{- range $key, $_ := $values.config -}}
{{- if hasKey $own $key -}}
{{- fail (printf "config.%s has no effect, because the chart sets it: use %s" $key (get $own $key)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
