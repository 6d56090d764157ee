//! A handler of messages for tests: the last word of the subject says what it does.

mod bindings {
    #![allow(missing_docs)]
    wit_bindgen::generate!({
        path: "../../../wit",
        world: "speech:pipeline/message-handler",
        generate_all,
    });
}

use bindings::speech::pipeline::message;
use bindings::wasmcloud::messaging::consumer;
use bindings::wasmcloud::messaging::types::BrokerMessage;

struct Probe;

bindings::export!(Probe with_types_in bindings);

impl bindings::exports::wasmcloud::messaging::handler::Guest for Probe {
    fn handle_message(received: BrokerMessage) -> Result<(), String> {
        let name = received.subject.rsplit('.').next().unwrap_or_default();
        let body = String::from_utf8_lossy(&received.body).into_owned();
        let answer = |text: String| match &received.reply_to {
            Some(subject) => send(subject, text),
            None => Ok(()),
        };
        match name {
            "echo" => {
                let headers = message::headers();
                let headers = headers.iter().filter(|(name, _)| name != "x-request-start");
                let headers: Vec<_> = headers.collect();
                answer(format!("{} {headers:?} {body}", received.subject))
            }
            "start" => {
                let headers = message::headers();
                let starts = headers
                    .iter()
                    .filter(|(name, _)| name.eq_ignore_ascii_case("x-request-start"));
                answer(format!(
                    "{:?}",
                    starts.map(|(_, value)| value).collect::<Vec<_>>()
                ))
            }
            "twice" => {
                answer("first".into())?;
                println!("second: {:?}", answer("second".into()));
                Ok(())
            }
            "large" => match answer("x".repeat(2 << 20)) {
                Ok(()) => Ok(()),
                Err(error) => answer(error),
            },
            "large-error" => answer("x".repeat(2 << 20)),
            "silent" => Ok(()),
            "error" => Err(format!("cannot handle {body}")),
            "trap" => panic!("a trap was asked for"),
            "spin" => {
                let mut x = 1u64;
                loop {
                    x = std::hint::black_box(x.wrapping_mul(3));
                }
            }
            "sleep" => {
                std::thread::sleep(std::time::Duration::from_millis(body.parse().unwrap_or(0)));
                answer(format!("slept {body} ms"))
            }
            "publish" => {
                let sent = send(&body, "published".into());
                answer(format!("{sent:?}"))
            }
            "publish-for" => {
                let (subject, reply_to) = body.split_once(' ').unwrap_or((&body, ""));
                let sent = consumer::publish(&BrokerMessage {
                    subject: subject.to_owned(),
                    body: b"published".to_vec(),
                    reply_to: Some(reply_to.to_owned()),
                });
                answer(format!("{sent:?}"))
            }
            "request" => {
                let got = consumer::request(&body, b"asked", 500);
                answer(match got {
                    Ok(got) => format!(
                        "{} {}",
                        String::from_utf8_lossy(&got.body),
                        got.subject.starts_with("_INBOX.")
                    ),
                    Err(error) => format!("error: {error}"),
                })
            }
            _ => Err(format!("there is no probe {name}")),
        }
    }
}

fn send(subject: &str, text: String) -> Result<(), String> {
    consumer::publish(&BrokerMessage {
        subject: subject.to_owned(),
        body: text.into_bytes(),
        reply_to: None,
    })
}
