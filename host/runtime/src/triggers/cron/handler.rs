//! A component that is run like a program.

use std::sync::Arc;

use wasmtime_wasi::{I32Exit, p2, p3};

use crate::engine::{Component, InstanceState, Outline};
use crate::error::Failure;
use crate::invocation::{Caller, RequestIds};
use crate::triggers::call::call;

/// A component that is run like a program.
pub(crate) struct RunHandler {
    component: Arc<Component>,
    pre: Pre,
}

/// The version of WASI whose `run` it exports.
enum Pre {
    Wasi02(p2::bindings::CommandPre<InstanceState>),
    Wasi03(p3::bindings::CommandPre<InstanceState>),
}

/// Checks that a component can be run.
pub(super) fn check(id: &str, outline: &Outline) -> anyhow::Result<()> {
    let is_run = |export: &String| export.starts_with("wasi:cli/run");
    anyhow::ensure!(outline.exports.iter().any(is_run), no_run(id));
    Ok(())
}

fn no_run(id: &str) -> String {
    format!(
        "component {id} cannot be run: it exports no wasi:cli/run; build it as a program, with a `main` function"
    )
}

impl RunHandler {
    /// Creates the handler of a component.
    ///
    /// # Errors
    /// When it cannot be run.
    pub(super) fn new(component: &Arc<Component>) -> anyhow::Result<Self> {
        let pre = component.pre();
        let pre = match p3::bindings::CommandPre::new(pre.clone()) {
            Ok(pre) => Pre::Wasi03(pre),
            Err(_) => match p2::bindings::CommandPre::new(pre.clone()) {
                Ok(pre) => Pre::Wasi02(pre),
                Err(_) => anyhow::bail!(no_run(&component.target().id)),
            },
        };
        Ok(Self {
            component: Arc::clone(component),
            pre,
        })
    }

    pub(super) fn component(&self) -> &Arc<Component> {
        &self.component
    }

    /// Returns what it exports.
    pub(super) fn interface(&self) -> &'static str {
        match self.pre {
            Pre::Wasi02(_) => "wasi:cli/run@0.2",
            Pre::Wasi03(_) => "wasi:cli/run@0.3",
        }
    }

    /// Runs it once.
    pub(super) async fn run(&self, ids: RequestIds) -> Result<(), Failure> {
        let component = &self.component;
        let caller = Caller::Host;
        match &self.pre {
            Pre::Wasi02(pre) => {
                let called = call(
                    component,
                    ids,
                    caller,
                    async |store| pre.instantiate_async(store).await,
                    async |store, instance| outcome(instance.wasi_cli_run().call_run(store).await),
                );
                called.await
            }
            Pre::Wasi03(pre) => {
                let called = call(
                    component,
                    ids,
                    caller,
                    async |store| pre.instantiate_async(store).await,
                    async |store, instance| {
                        let run = store.run_concurrent(async |store| {
                            instance.wasi_cli_run().call_run(store).await
                        });
                        outcome(run.await.flatten())
                    },
                );
                called.await
            }
        }
    }
}

/// Returns how a run ended: a program may also end with an exit code.
fn outcome(result: wasmtime::Result<Result<(), ()>>) -> wasmtime::Result<Result<(), String>> {
    match result {
        Ok(Ok(())) => Ok(Ok(())),
        Ok(Err(())) => Ok(Err("it failed".into())),
        Err(error) => match error.downcast_ref::<I32Exit>() {
            Some(I32Exit(0)) => Ok(Ok(())),
            Some(I32Exit(code)) => Ok(Err(format!("it ended with exit code {code}"))),
            None => Err(error),
        },
    }
}
