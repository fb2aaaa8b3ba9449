"""Values for the tests: what a user must give, and one variant for each thing that the chart can do."""

from tests.helm.programs import Values

DIGEST = "sha256:" + "0123456789abcdef" * 4
BASE: Values = {
    "image": {"repository": "registry.example.com/migrate"},
    "clickhouse": {"url": "http://migrate@clickhouse:8123/", "existingSecret": "databases"},
    "mysql": {"url": "mysql://migrate@mysql:3306/app", "existingSecret": "databases"},
}
TRIAL: Values = {
    "clickhouse": {"url": "http://migrate@clickhouse:8123/", "password": "k4narie-1"},
    "mysql": {"url": "mysql://migrate@mysql:3306/app", "password": "k4narie-2"},
    "serviceAccount": {"create": True, "annotations": {"example.com/role": "migrate"}},
}
PLAIN: Values = {"hook": {"enabled": False}}
VARIANTS: dict[str, Values] = {
    "default": {},
    "digest": {"image": {"repository": "registry.example.com:5000/team/migrate", "digest": DIGEST}},
    "ordinary Job": PLAIN,
    "Argo CD": PLAIN | {"job": {"ttlSecondsAfterFinished": None},
                        "jobAnnotations": {"argocd.argoproj.io/sync-wave": "-1"}},
    "databases of the same release": {"hook": {"events": ["post-install", "pre-upgrade"], "weight": 3,
                                               "deletePolicy": ["before-hook-creation", "hook-succeeded"]}},
    "URLs in Secrets": {"clickhouse": {"existingSecret": "clickhouse", "urlKey": "url"},
                        "mysql": {"existingSecret": "mysql", "urlKey": "url"}},
    "trial": TRIAL,
    "trial, ordinary Job": TRIAL | PLAIN,
    "one database": {"mysql": {}, "settings": {"MIGRATE_TARGETS": "clickhouse"}},
    "more steps": {"steps": {"configMap": "steps", "files": ["0008_a.mysql.sql", "0008_a.mysql.verify.sql"]}},
    "other steps": {"steps": {"configMap": "steps"}},
    "OpenShift": {"podSecurityContext": {"runAsUser": None, "runAsGroup": None}},
    "everything": {
        "imagePullSecrets": [{"name": "registry"}],
        "settings": {"MIGRATE_REPAIR": "all", "MIGRATE_WAIT_TIMEOUT": 30, "MIGRATE_LOG_LEVEL": "debug"},
        "jobAnnotations": {"example.com/a": "1"},
        "podAnnotations": {"sidecar.istio.io/inject": "false"},
        "nodeSelector": {"kubernetes.io/arch": "amd64"},
        "tolerations": [{"key": "batch", "operator": "Exists", "effect": "NoSchedule"}],
        "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
            {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a"]}]}]}}},
        "extraEnv": [{"name": "TZ", "value": "30"}, {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}],
        "extraVolumes": [{"name": "ca", "configMap": {"name": "database-ca"}}],
        "extraVolumeMounts": [{"name": "ca", "mountPath": "/run/ca", "readOnly": True}],
        "serviceAccount": {"name": "batch"},
    },
}  # fmt: skip
