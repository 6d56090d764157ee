//! The NATS trigger: messages on a subject go to a component.

mod bindings;
mod config;
mod handler;
mod metrics;
mod subscription;

use std::collections::BTreeMap;
use std::sync::Arc;

use manifest::{Manifest, Section};
use tokio_util::sync::CancellationToken;

use super::trigger::{Sources, Trigger};
use crate::engine::{Component, Outline};
use crate::role::Role;
use config::Config;
use handler::MessageHandler;
use subscription::Subscribed;

/// The trigger `[[trigger.nats]]`.
pub(crate) struct Nats;

impl Trigger for Nats {
    const KIND: &'static str = "nats";
    type Handler = MessageHandler;
    type Table = Vec<Subscribed>;

    fn section() -> Section {
        Section::of::<Config>(Self::KIND)
    }

    fn check(id: &str, outline: &Outline) -> anyhow::Result<()> {
        handler::check(id, outline)
    }

    fn handler(component: &Arc<Component>) -> anyhow::Result<MessageHandler> {
        MessageHandler::new(component)
    }

    fn interface(_: &MessageHandler) -> String {
        handler::INTERFACE.into()
    }

    fn table(
        manifest: &Manifest,
        handlers: &BTreeMap<&str, Arc<MessageHandler>>,
        _: &Sources,
    ) -> anyhow::Result<Vec<Subscribed>> {
        let mut table: Vec<Subscribed> = Vec::new();
        for trigger in manifest.triggers_of(Self::KIND) {
            let config: Config = trigger.config.clone().try_into()?;
            let handler = &handlers[trigger.component.as_str()];
            let next = Subscribed::new(config, Arc::clone(handler));
            if let Some(other) = table.iter().find(|other| other.competes_with(&next)) {
                anyhow::bail!(
                    "both {} and {} take messages on \"{}\" in the queue group \"{}\", so each would get some of them; give one of them another `queue_group`",
                    other.id(),
                    next.id(),
                    next.subjects(),
                    next.group()
                );
            }
            table.push(next);
        }
        Ok(table)
    }

    fn start(
        table: &Vec<Subscribed>,
        previous: Option<&Vec<Subscribed>>,
        sources: &Sources,
        stop: &CancellationToken,
    ) {
        if table.is_empty() || sources.role == Role::Http {
            return;
        }
        let Some(connection) = &sources.queue else {
            let subjects: Vec<&str> = table
                .iter()
                .map(|entry| entry.subjects().as_str())
                .collect();
            tracing::info!(
                subjects = subjects.join(", "),
                "messages are not received: start the host with --nats to connect it to NATS"
            );
            return;
        };
        for entry in table {
            let replaced = previous.into_iter().flatten();
            let replaced = replaced
                .into_iter()
                .find(|other| other.competes_with(entry));
            entry.start(replaced, connection, stop);
        }
    }

    fn describe(table: &Vec<Subscribed>, id: &str) -> Vec<String> {
        let own = table.iter().filter(|entry| &**entry.id() == id);
        own.map(|entry| format!("nats:{}", entry.subjects()))
            .collect()
    }
}
