//! Version 1 of the record, in which a component's settings had fields of their own.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::record::{Deployed, Record, Revision};

/// A record of version 1.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OldRecord {
    #[serde(rename = "version")]
    _version: u32,
    components: BTreeMap<String, OldDeployed>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OldDeployed {
    current: u32,
    revisions: Vec<OldRevision>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OldRevision {
    revision: u32,
    digest: String,
    deployed: u64,
    settings: OldSettings,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OldSettings {
    route: String,
    #[serde(default)]
    environment: BTreeMap<String, String>,
    #[serde(default)]
    allowed_outbound_hosts: Vec<String>,
    #[serde(default)]
    ai_models: Vec<String>,
    #[serde(default)]
    timeseries: bool,
    #[serde(default)]
    dependencies: BTreeMap<String, String>,
    #[serde(default)]
    health: Option<String>,
}

/// Converts the record to the current version.
pub(super) fn upgrade(old: OldRecord) -> Record {
    let mut record = Record::default();
    for (id, deployed) in old.components {
        let revisions = deployed.revisions.into_iter();
        let revisions = revisions.map(|revision| Revision {
            revision: revision.revision,
            digest: revision.digest,
            deployed: revision.deployed,
            health: revision.settings.health.clone(),
            manifest: fragment(&id, revision.settings),
        });
        let deployed = Deployed {
            current: deployed.current,
            revisions: revisions.collect(),
        };
        record.components.insert(id, deployed);
    }
    record
}

fn fragment(id: &str, settings: OldSettings) -> Value {
    let mut component = Map::new();
    if !settings.environment.is_empty() {
        component.insert("environment".into(), json!(settings.environment));
    }
    if !settings.allowed_outbound_hosts.is_empty() {
        let hosts = json!(settings.allowed_outbound_hosts);
        component.insert("allowed_outbound_hosts".into(), hosts);
    }
    if !settings.ai_models.is_empty() {
        component.insert("ai_models".into(), json!(settings.ai_models));
    }
    if !settings.dependencies.is_empty() {
        let dependencies: Map<String, Value> = settings
            .dependencies
            .into_iter()
            .map(|(import, id)| {
                (
                    import,
                    json!({"component": id, "inherit_configuration": true}),
                )
            })
            .collect();
        component.insert("dependencies".into(), dependencies.into());
    }
    if settings.timeseries {
        component.insert("tool".into(), json!({"whisper-host": {"timeseries": true}}));
    }
    json!({
        "trigger": {"http": [{"route": settings.route, "component": id}]},
        "component": {id: component},
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::format;

    #[test]
    fn settings_become_a_manifest() {
        let old = json!({"version": 1, "components": {"mine": {"current": 1, "revisions": [{
            "revision": 1, "digest": "00", "deployed": 7,
            "settings": {
                "route": "/mine/...", "environment": {"A": "1"}, "allowed_outbound_hosts": [],
                "ai_models": ["whisper"], "timeseries": true,
                "dependencies": {"speech:pipeline/features": "audio"}, "health": "/mine/hello",
            },
        }]}}});
        let record = upgrade(serde_json::from_value(old).unwrap());
        let revision = record.components["mine"].serving().unwrap();
        assert_eq!((revision.deployed, &*revision.digest), (7, "00"));
        assert_eq!(revision.health.as_deref(), Some("/mine/hello"));
        let expected = json!({
            "trigger": {"http": [{"route": "/mine/...", "component": "mine"}]},
            "component": {"mine": {
                "environment": {"A": "1"},
                "ai_models": ["whisper"],
                "dependencies": {"speech:pipeline/features":
                    {"component": "audio", "inherit_configuration": true}},
                "tool": {"whisper-host": {"timeseries": true}},
            }},
        });
        assert_eq!(revision.manifest, expected);
        manifest::Fragment::from_json("mine", &expected, &format()).unwrap();
    }
}
