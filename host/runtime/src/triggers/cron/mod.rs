//! The cron trigger: runs a component at the times of a schedule.

mod config;
mod handler;
mod schedule;

use std::collections::BTreeMap;
use std::sync::Arc;

use manifest::{Manifest, Section};
use tokio_util::sync::CancellationToken;

use super::trigger::{Sources, Trigger};
use crate::engine::{Component, Outline};
use crate::role::Role;
use config::Config;
use handler::RunHandler;
use schedule::Scheduled;

/// The trigger `[[trigger.cron]]`.
pub(crate) struct Cron;

impl Trigger for Cron {
    const KIND: &'static str = "cron";
    type Handler = RunHandler;
    type Table = Vec<Scheduled>;

    fn section() -> Section {
        Section::of::<Config>(Self::KIND)
    }

    fn check(id: &str, outline: &Outline) -> anyhow::Result<()> {
        handler::check(id, outline)
    }

    fn handler(component: &Arc<Component>) -> anyhow::Result<RunHandler> {
        RunHandler::new(component)
    }

    fn interface(handler: &RunHandler) -> String {
        handler.interface().into()
    }

    fn table(
        manifest: &Manifest,
        handlers: &BTreeMap<&str, Arc<RunHandler>>,
        _: &Sources,
    ) -> anyhow::Result<Vec<Scheduled>> {
        let triggers = manifest.triggers_of(Self::KIND).map(|trigger| {
            let config: Config = trigger.config.clone().try_into()?;
            let handler = &handlers[trigger.component.as_str()];
            Ok(Scheduled::new(config, Arc::clone(handler)))
        });
        triggers.collect()
    }

    fn start(
        table: &Vec<Scheduled>,
        _: Option<&Vec<Scheduled>>,
        sources: &Sources,
        stop: &CancellationToken,
    ) {
        if sources.role == Role::Http {
            return;
        }
        for entry in table {
            tokio::spawn(entry.clone().serve(stop.clone()));
        }
    }

    fn describe(table: &Vec<Scheduled>, id: &str) -> Vec<String> {
        let own = table.iter().filter(|entry| &**entry.id() == id);
        own.map(|entry| format!("cron:{}", entry.config()))
            .collect()
    }
}
