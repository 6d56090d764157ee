"""Checks the Helm chart in k8s/: `make test-deploy`.

Helm itself, as a library, lints and renders the chart for each values file and each switch. Each manifest must be valid under the
schemas of several versions of Kubernetes, and fit the others: selectors, ports, ConfigMaps, Secrets and volumes that it names. What the
chart says about the host (variables, paths, streams, the manifest) is compared with the host's source.

It does not install the chart, and knows no schemas for the resources of other projects (KEDA, Istio, Prometheus Operator, GKE).
"""

import functools
import json
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib

try:
    import helm_python as helm
    import kubernetes_validate.utils as schemas
    import yaml
except ImportError as error:
    print(f"skipped: the chart was not checked, because the package {error.name} is not installed (scripts/setup-deploy.sh)")
    sys.exit(0)

ROOT = pathlib.Path(__file__).resolve().parent.parent
CHART = ROOT / "k8s/faster-whisper-api"
# The oldest version that the chart accepts, one between, and the newest with a schema.
KUBERNETES = ["1.30", "1.34", "1.37"]
# Kinds of other projects, without a schema here.
FOREIGN = {"ScaledObject", "ServiceMonitor", "VirtualService", "BackendConfig", "ManagedCertificate", "FrontendConfig"}
WORKLOADS = {"Deployment", "StatefulSet", "Pod"}
# Health paths of servers that are not ours.
SERVER_PATHS = {
    "nats": {"/healthz", "/healthz?js-enabled-only=true", "/healthz?js-server-only=true"},
    "influxdb": {"/health"},
}
MARK = "s3cret"

NATS = {"external": {"url": "nats://my-nats.default.svc.cluster.local:4222"}}
WORKER = {"worker": {"enabled": True}, "nats": {"enabled": True}}
NO_STATE = {"state": {"persistence": {"enabled": False}}}

# One for each switch, on top of the defaults.
SWITCHES = {
    "defaults": {},
    "tag": {"image": {"tag": "1.2.3"}, "imagePullSecrets": [{"name": "pull"}]},
    "digest": {"image": {"digest": "sha256:" + "0" * 64}},
    "several models, fetched": {"model": {"name": "base,fast=tiny.en,/srv/own", "fetch": {"enabled": True, "endpoint": "https://hub.example.com"}}},
    "fetched, persistent": {"model": {"name": "openai/whisper-small", "fetch": {"enabled": True}, "persistence": {"enabled": True}}},
    "fetched, existing claim": {"model": {"fetch": {"enabled": True}, "persistence": {"enabled": True, "existingClaim": "outside-models"}}},
    "manifest of the user": {"app": {"spinToml": (ROOT / "spin.toml").read_text()}},
    "existing manifest": {"app": {"existingConfigMap": "outside-app", "registrySecret": "outside-registry", "watch": False}},
    "settings": {"config": {"log": "info,component=debug", "max-batch": 64, "max-connections": 4096, "outbound-ca": ["/a.pem", "/b.pem"]}},
    "existing secret": {"secrets": {"existingSecret": "outside-secret"}, **WORKER, "influxdb": {"enabled": True}},
    "given secrets": {
        "secrets": {name: MARK + name for name in ["adminToken", "natsToken", "natsPassword", "influxdbToken", "influxdbPassword", "hfToken"]}
        | {"webhookSecret": "whsec_" + MARK},
        **WORKER, "influxdb": {"enabled": True}, "model": {"fetch": {"enabled": True}},
    },
    "no persistence": NO_STATE,
    "storage class": {"state": {"persistence": {"storageClass": "fast", "keep": False, "annotations": {"a": "b"}}}},
    "no dynamic provisioning": {"state": {"persistence": {"storageClass": "-"}}},
    "existing claim": {"state": {"persistence": {"existingClaim": "outside-state"}}},
    "stateful set": {"api": {"kind": "StatefulSet", "replicas": 3}},
    "stateful set, no persistence": {"api": {"kind": "StatefulSet", "replicas": 3}, **NO_STATE},
    "several replicas": {"api": {"replicas": 3}, **NO_STATE},
    "autoscaling": {"api": {"autoscaling": {"enabled": True}}, **NO_STATE},
    "autoscaling of a stateful set": {"api": {"kind": "StatefulSet", "autoscaling": {"enabled": True}}},
    "no budgets": {"api": {"podDisruptionBudget": {"enabled": False}}, "worker": {"podDisruptionBudget": {"enabled": False}}},
    "no drain": {"api": {"drainSeconds": 0}},
    "pods": {"api": {
        "podAnnotations": {"a": "b"}, "podLabels": {"c": "d"}, "nodeSelector": {"e": "f"}, "tolerations": [{"operator": "Exists"}],
        "affinity": {"nodeAffinity": {}}, "topologySpread": [], "priorityClassName": "high",
        "extraEnv": [{"name": "OTEL_EXPORTER_OTLP_ENDPOINT", "value": "http://otel:4318"}], "extraEnvFrom": [{"secretRef": {"name": "outside-env"}}],
        "extraVolumes": [{"name": "extra", "emptyDir": {}}], "extraVolumeMounts": [{"name": "extra", "mountPath": "/extra"}],
    }},
    "worker": WORKER,
    "worker, autoscaling": {"worker": {"enabled": True, "autoscaling": {"enabled": True}}, "nats": NATS},
    "keda": {**WORKER, "keda": {"enabled": True, "components": ["analyze", "words"]}},
    "keda, own nats": {"worker": {"enabled": True}, "nats": NATS, "keda": {"enabled": True, "natsMonitoring": "my-nats-headless.default.svc.cluster.local:8222"}},
    "keda, prometheus": {**WORKER, "keda": {"enabled": True, "scaler": "prometheus", "prometheus": "http://prometheus.monitoring.svc:9090"}},
    "gpu": {"gpu": {"enabled": True, "nodeSelector": {"gpu": "l4"}, "runtimeClassName": "nvidia"}, "image": {"tag": "cuda"}, "model": {"fetch": {"enabled": True}}},
    "gpu workers": {**WORKER, "gpu": {"enabled": True}, "image": {"tag": "cuda"}},
    "nats": {"nats": {"enabled": True}},
    "nats, no persistence": {"nats": {"enabled": True, "persistence": {"enabled": False}, "nodeSelector": {"a": "b"}, "tolerations": [{"operator": "Exists"}]}},
    "own nats": {"nats": NATS},
    "own nats, user": {"nats": {"external": {**NATS["external"], "user": "whisper"}}, "secrets": {"natsPassword": MARK}},
    "own nats, token": {"nats": NATS, "secrets": {"natsToken": MARK}},
    "own nats, tls": {"nats": {"external": {"url": "tls://a:4222,tls://b:4222", "credsSecret": "outside-creds", "tlsSecret": "outside-tls", "clientCertificate": True}}},
    "influxdb": {"influxdb": {"enabled": True}},
    "influxdb, no persistence": {"influxdb": {"enabled": True, "persistence": {"enabled": False}, "nodeSelector": {"a": "b"}, "tolerations": [{"operator": "Exists"}]}},
    "own influxdb": {"influxdb": {"external": {"url": "influxdbs://influxdb.example.com:8086"}, "org": "my org"}, "secrets": {"influxdbToken": MARK}},
    "cluster ip": {"service": {"type": "ClusterIP", "name": "", "annotations": {"a": "b"}, "port": 80}},
    "node port": {"service": {"nodePort": 30800, "externalTrafficPolicy": "Local"}},
    "load balancer": {"service": {"type": "LoadBalancer", "loadBalancerClass": "example.com/lb", "loadBalancerSourceRanges": ["10.0.0.0/8"]}, "externalDns": {"hostnames": ["a.example.com", "b.example.com"], "ttl": 60}},
    "ingress": {"ingress": {"enabled": True, "className": "nginx", "tls": [{"hosts": ["speech.example.com"], "secretName": "tls"}]}, "externalDns": {"hostnames": ["speech.example.com"]}},
    "admin": {"admin": {"exposed": True, "port": 9001}},
    "service monitor": {"metrics": {"serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}}}, **WORKER},
    "no network policy": {"networkPolicy": {"enabled": False}},
    "network policy": {**WORKER, "influxdb": {"enabled": True}, "admin": {"exposed": True}, "networkPolicy": {
        "egress": {"enabled": True, "extra": [{"ports": [{"port": 4222}]}]},
        **{name: [{"namespaceSelector": {}}] for name in ["apiFrom", "adminFrom", "natsFrom", "influxdbFrom"]}}},
    "istio": {"istio": {"enabled": True, "virtualService": {"enabled": True, "gateways": ["istio-system/public"]}}, **WORKER, "influxdb": {"enabled": True}},
    "linkerd": {"linkerd": {"enabled": True}, **WORKER, "influxdb": {"enabled": True}},
    "no service account": {"serviceAccount": {"create": False}},
    "service account": {"serviceAccount": {"name": "mine", "annotations": {"a": "b"}}},
    "extra objects": {"extraObjects": [
        "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {{ .Release.Name }}-extra\n  namespace: {{ .Release.Namespace }}\n",
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "more", "namespace": "{{ .Release.Namespace }}"}}]},
    "name": {"fullnameOverride": "speech-" + "x" * 60},
}

# Values that must be refused, and a part of the message.
REFUSED = [
    ({"replicas": 2}, "replicas"),
    ({"api": {"replicas": "two"}}, "/api/replicas"),
    ({"api": {"kind": "DaemonSet"}}, "/api/kind"),
    ({"service": {"port": 70000}}, "/service/port"),
    ({"model": {"precision": "int4"}}, "'int8'"),
    ({"state": {"persistence": {"size": "ten"}}}, "/state/persistence/size"),
    ({"user": 0}, "/user"),
    ({"nats": {"external": {"url": "nats://user:password@host:4222"}}}, "/nats/external/url"),
    ({"influxdb": {"external": {"url": "http://influxdb:8086"}}}, "/influxdb/external/url"),
    ({"config": {"max_batch": 3}}, "'max_batch'"),
    ({"ingress": {"hosts": [{"host": "a", "paths": []}]}}, "/ingress/hosts"),
    ({"config": {"listen": "0.0.0.0:80"}}, "config.listen has no effect"),
    ({"worker": {"enabled": True}}, "worker.enabled needs NATS"),
    ({"nats": {"enabled": True, **NATS}}, "exclude each other"),
    ({"influxdb": {"enabled": True, "external": {"url": "influxdb://a:8086"}}}, "exclude each other"),
    ({"influxdb": {"external": {"url": "influxdb://a:8086"}}}, "needs a token"),
    ({"nats": {"external": {**NATS["external"], "user": "a"}}}, "needs a password"),
    ({"nats": {"external": {**NATS["external"], "clientCertificate": True}}}, "tlsSecret"),
    ({"keda": {"enabled": True}}, "worker.enabled=true"),
    ({"keda": {"enabled": True}, "worker": {"enabled": True}, "nats": NATS}, "keda.natsMonitoring"),
    ({"keda": {"enabled": True, "scaler": "prometheus"}, **WORKER}, "keda.prometheus"),
    ({"keda": {"enabled": True}, "worker": {"enabled": True, "autoscaling": {"enabled": True}}, "nats": {"enabled": True}}, "exclude each other"),
    ({"api": {"replicas": 2}}, "only one host uses a state folder"),
    ({"api": {"autoscaling": {"enabled": True}}}, "only one host uses a state folder"),
    ({"api": {"kind": "StatefulSet"}, "state": {"persistence": {"existingClaim": "a"}}}, "existingClaim"),
    ({"api": {"autoscaling": {"minReplicas": 20}}}, "minReplicas"),
    ({"model": {"name": "large-v3"}}, "no image with the model large-v3"),
    ({"model": {"fetch": {"enabled": True}, "persistence": {"enabled": True}}, **WORKER}, "ReadWriteMany"),
    ({"gpu": {"enabled": True}}, "set image.tag"),
    ({"istio": {"enabled": True}, "linkerd": {"enabled": True}}, "exclude each other"),
    ({"istio": {"virtualService": {"enabled": True}}}, "needs istio.enabled"),
]

problems = []


def problem(where, text):
    problems.append(f"{where}: {text}")


class Loader(yaml.SafeLoader):
    """Refuses keys that appear twice, of which YAML would take the last."""


def mapping(loader, node):
    keys = [loader.construct_object(key) for key, _ in node.value]
    twice = {key for key in keys if keys.count(key) > 1}
    if twice:
        raise yaml.YAMLError(f"{', '.join(map(str, twice))} twice{node.start_mark}")
    return dict(yaml.SafeLoader.construct_mapping(loader, node, deep=True))


Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, mapping)


def render(chart, values, name="faster-whisper-api", **options):
    """Returns the notes and the manifests, each with the template that it is from."""
    notes, manifests = "", []
    for template, text in chart.render(values, name=name, namespace="speech", **options).items():
        if template.endswith("NOTES.txt"):
            notes = text
            continue
        for manifest in yaml.load_all(text, Loader=Loader):
            if manifest:
                manifests.append(manifest)
    return notes, manifests


# The library reads its schemas anew for each manifest.
schemas.schema_contents = functools.cache(schemas.schema_contents)
validated = set()


def validate(where, manifest):
    text = json.dumps(manifest, sort_keys=True)
    if manifest["kind"] in FOREIGN or text in validated:
        return
    validated.add(text)
    for version in KUBERNETES:
        try:
            schemas.validate(manifest, version, strict=True)
        except schemas.ValidationError as error:
            path = ".".join(map(str, error.path))
            problem(where, f"{identity(manifest)} is not valid for Kubernetes {version}: {path}: {error.message}")
        except schemas.SchemaNotFoundError as error:
            problem(where, error.message)


def identity(manifest):
    return f"{manifest['kind']}/{manifest['metadata']['name']}"


class Release:
    """The manifests of one rendering, and the checks of how they fit together."""

    def __init__(self, where, manifests):
        self.where, self.manifests = where, manifests
        self.by_identity = {}
        for manifest in manifests:
            if identity(manifest) in self.by_identity:
                self.problem(manifest, "is there twice")
            self.by_identity[identity(manifest)] = manifest
            if manifest["metadata"].get("namespace") != "speech":
                self.problem(manifest, "is not in the namespace of the release")
            if len(manifest["metadata"]["name"]) > 63:
                self.problem(manifest, "has a name of more than 63 characters")
        self.workloads = [manifest for manifest in manifests if manifest["kind"] in WORKLOADS]

    def problem(self, manifest, text):
        problem(self.where, f"{identity(manifest)} {text}")

    def of(self, kind):
        return [manifest for manifest in self.manifests if manifest["kind"] == kind]

    def check(self):
        for workload in self.workloads:
            self.check_pod(workload, *template(workload))
        for service in self.of("Service"):
            pods = self.check_selector(service, service["spec"]["selector"])
            for port in service["spec"]["ports"]:
                self.check_ports(service, pods, port["targetPort"])
        for budget in self.of("PodDisruptionBudget"):
            self.check_selector(budget, budget["spec"]["selector"]["matchLabels"])
        for policy in self.of("NetworkPolicy"):
            pods = self.check_selector(policy, policy["spec"]["podSelector"]["matchLabels"])
            for rule in policy["spec"]["ingress"]:
                for port in rule["ports"]:
                    self.check_ports(policy, pods, port["port"])
        for ingress in self.of("Ingress"):
            for rule in ingress["spec"]["rules"]:
                for path in rule["http"]["paths"]:
                    self.check_backend(ingress, path["backend"]["service"]["name"], path["backend"]["service"]["port"]["name"])
        for virtual in self.of("VirtualService"):
            for route in virtual["spec"]["http"][0]["route"]:
                host, namespace, *_ = route["destination"]["host"].split(".")
                self.check_backend(virtual, host, route["destination"]["port"]["number"])
        for scaler in self.of("HorizontalPodAutoscaler") + self.of("ScaledObject"):
            target = scaler["spec"]["scaleTargetRef"]
            workload = self.by_identity.get(f"{target['kind']}/{target['name']}")
            if not workload:
                self.problem(scaler, f"scales {target['kind']}/{target['name']}, which does not exist")
            elif "replicas" in workload["spec"]:
                self.problem(workload, f"has `replicas`, which undoes what {identity(scaler)} does at each upgrade")
        for scaler in self.of("ScaledObject"):
            self.check_triggers(scaler)
        for monitor in self.of("ServiceMonitor"):
            self.check_monitor(monitor)
        self.check_secrets()
        self.check_files()

    def check_selector(self, manifest, selector):
        """Returns the workloads whose pods match."""
        matches = [workload for workload in self.workloads if selects(selector, template(workload)[0]["labels"])]
        if not matches:
            self.problem(manifest, f"selects no pod: {selector}")
        return matches

    def check_ports(self, manifest, workloads, port):
        for workload in workloads:
            if port not in ports(template(workload)[1]):
                self.problem(manifest, f"names the port {port}, which {identity(workload)} does not have")

    def check_backend(self, manifest, name, port):
        service = self.by_identity.get(f"Service/{name}")
        if not service:
            self.problem(manifest, f"leads to Service/{name}, which does not exist")
        elif not any(port in (known["name"], known["port"]) for known in service["spec"]["ports"]):
            self.problem(manifest, f"leads to the port {port}, which Service/{name} does not have")

    def check_reference(self, manifest, kind, name, key=None, optional=False):
        if name.startswith("outside-"):
            return
        target = self.by_identity.get(f"{kind}/{name}")
        if not target:
            self.problem(manifest, f"names {kind}/{name}, which does not exist")
        elif key and not optional and key not in target.get("data", {}) | target.get("binaryData", {}):
            self.problem(manifest, f"names the key {key}, which {kind}/{name} does not have")

    def check_pod(self, workload, metadata, pod):
        spec = workload["spec"]
        if "selector" in spec and not selects(spec["selector"]["matchLabels"], metadata["labels"]):
            self.problem(workload, "does not select its own pods")
        if workload["kind"] == "StatefulSet":
            self.check_reference(workload, "Service", spec["serviceName"])
        for spread in pod.get("topologySpreadConstraints", []):
            if not selects(spread["labelSelector"]["matchLabels"], metadata["labels"]):
                self.problem(workload, "spreads other pods than its own")
        account = pod.get("serviceAccountName", "default")
        if account != "default":
            self.check_reference(workload, "ServiceAccount", account)
        self.check_volumes(workload, pod)
        for container in containers(pod):
            self.check_container(workload, pod, container)
        if pod["automountServiceAccountToken"] is not False:
            self.problem(workload, "has a token of the service account")
        security = pod["securityContext"]
        if not (security["runAsNonRoot"] and security["runAsUser"] and security["seccompProfile"]["type"] == "RuntimeDefault"):
            self.problem(workload, "is not as restricted as it should be")

    def check_volumes(self, workload, pod):
        claims = {claim["metadata"]["name"] for claim in workload["spec"].get("volumeClaimTemplates", [])}
        volumes = {volume["name"] for volume in pod.get("volumes", [])}
        if claims & volumes:
            self.problem(workload, f"has two volumes with one name: {claims & volumes}")
        mounts = [(mount["name"], mount["mountPath"]) for container in containers(pod) for mount in container.get("volumeMounts", [])]
        mounted = {name for name, _ in mounts}
        if mounted != claims | volumes:
            self.problem(workload, f"has volumes {sorted(claims | volumes)}, and mounts {sorted(mounted)}")
        for container in containers(pod):
            paths = [mount["mountPath"] for mount in container.get("volumeMounts", [])]
            if len(paths) != len(set(paths)):
                self.problem(workload, f"mounts two volumes at one path: {paths}")
            if any("subPath" in mount for mount in container.get("volumeMounts", [])):
                self.problem(workload, "mounts a subPath, which never changes")
        for volume in pod.get("volumes", []):
            if "configMap" in volume:
                self.check_reference(workload, "ConfigMap", volume["configMap"]["name"])
            if "secret" in volume:
                self.check_reference(workload, "Secret", volume["secret"]["secretName"])
            if "persistentVolumeClaim" in volume:
                name = volume["persistentVolumeClaim"]["claimName"]
                self.check_reference(workload, "PersistentVolumeClaim", name)
                self.check_sharing(workload, volume["name"], self.by_identity.get(f"PersistentVolumeClaim/{name}"))

    def check_sharing(self, workload, volume, claim):
        spec = workload["spec"]
        if volume == "state" and not (spec.get("replicas") == 1 and spec["strategy"]["type"] == "Recreate"):
            self.problem(workload, "lets two hosts use one state folder")
        if volume == "models" and claim and "ReadWriteMany" not in claim["spec"]["accessModes"]:
            if len([other for other in self.workloads if claim["metadata"]["name"] in json.dumps(other)]) > 1 or spec.get("replicas") != 1:
                self.problem(workload, "shares a volume that only one node can use")

    def check_container(self, workload, pod, container):
        name, variables = container["name"], container.get("env", [])
        security = container["securityContext"]
        restricted = security["readOnlyRootFilesystem"] and not security["allowPrivilegeEscalation"] and security["capabilities"] == {"drop": ["ALL"]}
        if not restricted:
            self.problem(workload, f"does not restrict {name}")
        if not ("cpu" in container["resources"]["requests"] and "memory" in container["resources"]["limits"]):
            self.problem(workload, f"does not limit {name}")
        names = [variable["name"] for variable in variables]
        if len(names) != len(set(names)):
            self.problem(workload, f"sets a variable of {name} twice: {names}")
        for variable in variables:
            secret = variable.get("valueFrom", {}).get("secretKeyRef")
            if secret:
                self.check_reference(workload, "Secret", secret["name"], secret["key"], secret.get("optional", False))
        for source in container.get("envFrom", []):
            self.check_reference(workload, "Secret", source["secretRef"]["name"])
        for probe in ["startupProbe", "livenessProbe", "readinessProbe"]:
            if probe in container:
                get = container[probe]["httpGet"]
                if get["path"] not in (SERVER_PATHS.get(name) or source_facts()["paths"]):
                    self.problem(workload, f"probes {get['path']}, which {name} does not serve")
                if get["port"] not in {port["name"] for port in container["ports"]}:
                    self.problem(workload, f"probes the port {get['port']}, which {name} does not have")
            elif workload["kind"] != "Pod" and container in pod["containers"]:
                self.problem(workload, f"has no {probe} of {name}")
        if name == "whisper-host" or name.startswith("fetch-model"):
            self.check_host(workload, pod, container, {variable["name"]: variable.get("value") for variable in variables})

    def check_host(self, workload, pod, container, variables):
        for variable in variables:
            if variable not in source_facts()["variables"] and not variable.startswith("OTEL_"):
                self.problem(workload, f"sets {variable}, which the host does not read")
        mounts = [mount["mountPath"] for mount in container["volumeMounts"]]
        for variable in ["WHISPER_HOST_FROM", "WHISPER_HOST_CONFIG", "WHISPER_HOST_STATE_DIR", "HF_HUB_CACHE", "HOME", "DOCKER_CONFIG", "WHISPER_HOST_NATS_CREDS", "WHISPER_HOST_NATS_CA"]:
            path = variables.get(variable)
            if path and not any(path == mount or path.startswith(mount + "/") for mount in mounts):
                self.problem(workload, f"has nothing at {variable}={path}")
        if container["name"] != "whisper-host":
            return
        for variable, port in [("WHISPER_HOST_LISTEN", "http"), ("WHISPER_HOST_ADMIN_LISTEN", "admin")]:
            number = {known["name"]: known["containerPort"] for known in container["ports"]}[port]
            if not variables[variable].endswith(f":{number}"):
                self.problem(workload, f"listens on {variables[variable]}, not on its port {number}")
        if variables["WHISPER_HOST_ROLE"] != "all" and "WHISPER_HOST_NATS" not in variables:
            self.problem(workload, "has a role that needs NATS")
        if variables["WHISPER_HOST_ROLE"] == "http" and (len(containers(pod)) > 1 or "WHISPER_HOST_MODEL" in variables):
            self.problem(workload, "has a model that it does not load")
        stop = int(variables["WHISPER_HOST_SHUTDOWN_TIMEOUT"].removesuffix("s"))
        drain = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
        if pod["terminationGracePeriodSeconds"] < stop + drain + 5:
            self.problem(workload, "is killed before it has stopped")
        exposed = variables["WHISPER_HOST_ADMIN_LISTEN"].startswith("0.0.0.0")
        if exposed != any(service["metadata"]["name"].endswith("-admin") for service in self.of("Service")):
            self.problem(workload, "serves the admin interface without a Service, or the other way round")

    def check_triggers(self, scaler):
        facts = source_facts()
        for trigger in scaler["spec"]["triggers"]:
            settings = trigger["metadata"]
            if trigger["type"] == "nats-jetstream":
                if settings["stream"] != facts["stream"] or settings["consumer"].split("_", 1)[0] not in facts["priorities"]:
                    self.problem(scaler, f"asks for {settings['stream']}/{settings['consumer']}, which the hosts do not create")
                host, port = settings["natsServerMonitoringEndpoint"].split(":")
                if host.endswith(".speech.svc.cluster.local"):
                    self.check_backend(scaler, host.split(".")[0], int(port))
            for metric in re.findall(r"whisper_host_\w+", settings.get("query", "")):
                if metric not in facts["metrics"]:
                    self.problem(scaler, f"asks for {metric}, which the hosts do not report")

    def check_monitor(self, monitor):
        labels = monitor["spec"]["selector"]["matchLabels"]
        services = [service for service in self.of("Service") if selects(labels, service["metadata"]["labels"])]
        for endpoint in monitor["spec"]["endpoints"]:
            if len(services) != 1 or endpoint["port"] not in {port["name"] for port in services[0]["spec"]["ports"]}:
                self.problem(monitor, "finds no port to scrape, or more than one Service")
            if endpoint["path"] != "/metrics":
                self.problem(monitor, "scrapes another path than /metrics")
            credentials = endpoint["authorization"]["credentials"]
            self.check_reference(monitor, "Secret", credentials["name"], credentials["key"])

    def check_secrets(self):
        for manifest in self.manifests:
            if manifest["kind"] != "Secret" and MARK in json.dumps(manifest):
                self.problem(manifest, "shows a secret")

    def check_files(self):
        for manifest in self.of("ConfigMap"):
            data = manifest.get("data", {})
            if "runtime-config.toml" in data:
                for key in tomllib.loads(data["runtime-config.toml"]):
                    if "WHISPER_HOST_" + key.upper().replace("-", "_") not in source_facts()["variables"]:
                        self.problem(manifest, f"has the setting {key}, which the host does not know")
            if "spin.toml" in data:
                ours = tomllib.loads((ROOT / "spin.toml").read_text())
                for component in ours["component"].values():
                    component["source"] = component["source"].replace("target/components/", "/app/components/")
                if tomllib.loads(data["spin.toml"]) != ours:
                    self.problem(manifest, "has another spin.toml than the repository")


def template(workload):
    """Returns the metadata and the specification of a workload's pods."""
    if workload["kind"] == "Pod":
        return workload["metadata"], workload["spec"]
    pods = workload["spec"]["template"]
    return pods["metadata"], pods["spec"]


def containers(pod):
    return pod.get("initContainers", []) + pod["containers"]


def ports(pod):
    known = [port for container in pod["containers"] for port in container.get("ports", [])]
    return {port["name"] for port in known} | {port["containerPort"] for port in known}


def selects(selector, labels):
    return selector.items() <= labels.items()


@functools.cache
def source_facts():
    """What the host's source says about names that the chart uses."""
    text = {path: path.read_text() for folder in ["cli", "runtime", "queue", "fetch"] for path in (ROOT / "host" / folder / "src").rglob("*.rs")}
    everything = "\n".join(text.values())
    route = text[ROOT / "host/runtime/src/triggers/http/route.rs"]
    priorities = text[ROOT / "host/queue/src/jobs/record.rs"]
    # Read by crates that the host uses.
    libraries = {"HOME", "DOCKER_CONFIG", "HF_TOKEN", "HF_HUB_CACHE", "HF_HUB_OFFLINE", "HF_ENDPOINT"}
    return {
        "variables": set(re.findall(r'"(WHISPER_HOST_[A-Z_]+|NATS_[A-Z]+|INFLUX_TOKEN|WEBHOOK_SECRET)"', everything)) | libraries,
        "paths": set(re.findall(r'"(/\w+)"', re.search(r"const HOST_PATHS[^=]*=(.*?);", route, re.S)[1])),
        "stream": re.search(r'NAME: &str = "([\w-]+)"', text[ROOT / "host/queue/src/jobs/stores.rs"])[1],
        "priorities": set(re.findall(r'Self::\w+ => "(\w+)"', priorities)),
        "metrics": set(re.findall(r"whisper_host_\w+", (ROOT / "docs/operations.md").read_text() + everything)),
    }


def check_renderings(chart):
    files = sorted(CHART.glob("values-*.yaml"))
    cases = {file.name: yaml.load(file.read_text(), Loader=Loader) for file in files} | SWITCHES
    count = 0
    for where, values in cases.items():
        report = helm.lint(str(CHART), values, strict=True)
        for message in report["messages"]:
            if message["severity"] > 1:
                problem(where, f"lint: {message['path']}: {message['error']}")
        try:
            notes, manifests = render(chart, values)
        except (helm.HelmError, yaml.YAMLError) as error:
            problem(where, error)
            continue
        count += len(manifests)
        if "helm test" not in notes or MARK in notes:
            problem(where, "the notes do not say what to do next, or show a secret")
        for manifest in manifests:
            validate(where, manifest)
        Release(where, manifests).check()
    print(f"rendered and linted by Helm {helm.helm_sdk_version()}: {len(files)} values files, {len(SWITCHES)} switches, {count} manifests")
    print(f"valid, strictly, for Kubernetes {', '.join(KUBERNETES)}: {len(validated)} different manifests; without a schema: {', '.join(sorted(FOREIGN))}")
    print("fit together: selectors, ports, probes, volumes, ConfigMaps, Secrets, scale targets, variables, streams, metrics, times to stop")


def check_refusals(chart):
    for values, message in REFUSED:
        try:
            chart.render(values, name="faster-whisper-api", namespace="speech")
            problem("refused values", f"{json.dumps(values)} is accepted")
        except helm.HelmError as error:
            if message not in str(error):
                problem("refused values", f"{json.dumps(values)} is refused without `{message}`: {error}")
    print(f"refused with a message that names the setting: {len(REFUSED)} wrong values")


def check_reloads(chart):
    def pods(values):
        return [template(manifest) for manifest in render(chart, {**WORKER, **values})[1] if manifest["kind"] == "Deployment"]

    where, before = "restarts", pods({})
    if pods({}) != before:
        problem(where, "an upgrade without a change restarts the hosts")
    if pods({"app": {"spinToml": "spin_manifest_version = 2"}}) != before:
        problem(where, "a change of spin.toml restarts the hosts")
    for values in [{"config": {"max-batch": 8}}, {"secrets": {"adminToken": "new"}}]:
        if any(old == new for old, new in zip(before, pods(values))):
            problem(where, f"a change of {json.dumps(values)} does not restart the hosts")
    print("a change of spin.toml does not restart the hosts, one of the settings or secrets does")


def check_chart(chart):
    where, metadata = "Chart.yaml", chart.metadata
    version = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["package"]["version"]
    if metadata["appVersion"] != version:
        problem(where, f"appVersion is {metadata['appVersion']}, the host's is {version}")
    if metadata.get("dependencies"):
        problem(where, "has dependencies, which need a download")
    for ours, theirs in [("files/spin.toml", "spin.toml"), ("files/home.m4a", "test/audio/home.m4a")]:
        if (CHART / ours).read_bytes() != (ROOT / theirs).read_bytes():
            problem(ours, f"is not the same as {theirs}: copy it")
    if chart.values["tests"]["expect"] not in (ROOT / "test/audio/home.txt").read_text():
        problem("values.yaml", "tests.expect is not a word of the recording")
    with_jobs = {trigger["component"] for trigger in tomllib.loads((ROOT / "spin.toml").read_text())["trigger"]["http"] if "jobs" in trigger}
    if set(chart.values["keda"]["components"]) != with_jobs:
        problem("values.yaml", f"keda.components is not {with_jobs}, the components with jobs")
    # Without the recording and the generated secrets, which may have any letters.
    base = json.dumps([{**manifest, "data": {}, "binaryData": {}} for manifest in render(chart, {})[1]]).lower()
    for word in ["amazonaws", "alb.", "eks.", "gke", "cloud.google", "azure"]:
        if word in base:
            problem("values.yaml", f"has something of one cloud: {word}")
    with tempfile.TemporaryDirectory() as folder:
        archive = helm.package(str(CHART), destination=folder)
        with helm.Chart.load(archive) as packaged:
            kinds = [sorted(map(identity, render(one, {})[1])) for one in (chart, packaged)]
            if kinds[0] != kinds[1]:
                problem(where, "the packaged chart renders something else")
    for name in ["a", "x" * 53]:
        Release(f"release {name}", render(chart, WORKER, name=name)[1]).check()
    print("complete: no dependencies, packaged, the same spin.toml, recording and version as the repository")


def check_nats(chart):
    program = next((str(path) for path in [ROOT / ".tools/servers/nats-server"] if path.exists()), None) or shutil.which("nats-server")
    if not program:
        print("skipped: NATS has not read its configuration, because there is no nats-server (scripts/setup-servers.sh)")
        return
    config = next(manifest for manifest in render(chart, {"nats": {"enabled": True}})[1] if identity(manifest) == "ConfigMap/faster-whisper-api-nats")
    with tempfile.NamedTemporaryFile("w", suffix=".conf") as file:
        file.write(config["data"]["nats.conf"])
        file.flush()
        done = subprocess.run([program, "-t", "-c", file.name], env={"NATS_TOKEN": "t0k3n"}, capture_output=True, text=True)
    if done.returncode:
        problem("nats.conf", done.stderr.strip())
    print("nats-server accepts its configuration")


def main():
    with helm.Chart.load(str(CHART)) as chart:
        for check in [check_renderings, check_refusals, check_reloads, check_chart, check_nats]:
            check(chart)
    for text in problems:
        print(f"error: {text}", file=sys.stderr)
    if problems:
        sys.exit(f"{len(problems)} problems in the chart")
    print("the chart was rendered and validated, not installed: that needs a cluster")


main()
