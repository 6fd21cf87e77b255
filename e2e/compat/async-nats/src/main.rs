//! The main calls of async-nats: one line `ok NAME` for each claim that holds, `failed NAME: …` for one that does not.
//! Not a test harness: `test_async_nats.py` starts the server and reads the lines.
//! Usage: `weir-compat-async-nats URL`.

use std::future::Future;
use std::time::Duration;

use async_nats::jetstream::{self, consumer, kv, stream};
use async_nats::{Client, HeaderMap};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};

type Claim = Result<(), Box<dyn std::error::Error + Send + Sync>>;

const CLAIM_WITHIN: Duration = Duration::from_secs(20);

macro_rules! equal {
    ($left:expr, $right:expr) => {
        match (&$left, &$right) {
            (left, right) if left == right => {}
            (left, right) => return Err(format!("line {}: {left:?} is not {right:?}", line!()).into()),
        }
    };
}

async fn publish_and_subscribe(client: &Client) -> Claim {
    let mut messages = client.subscribe("rs.>").await?;
    for word in ["a", "b", "c"] {
        client.publish(format!("rs.{word}"), word.into()).await?;
    }
    for word in ["a", "b", "c"] {
        let message = messages.next().await.ok_or("the subscription ended")?;
        equal!(message.payload, Bytes::from(word));
    }
    Ok(())
}

async fn request_and_reply(client: &Client) -> Claim {
    let mut requests = client.subscribe("rs.service").await?;
    let responder = client.clone();
    tokio::spawn(async move {
        while let Some(request) = requests.next().await {
            if let Some(reply) = request.reply {
                let _ = responder.publish(reply, request.payload).await;
            }
        }
    });
    equal!(client.request("rs.service", "hi".into()).await?.payload, Bytes::from("hi"));
    Ok(())
}

async fn no_responders(client: &Client) -> Claim {
    let refusal = client.request("rs.nobody", "hi".into()).await.err().ok_or("somebody answered")?;
    equal!(refusal.kind(), async_nats::RequestErrorKind::NoResponders);
    Ok(())
}

async fn headers_are_kept(client: &Client) -> Claim {
    let mut messages = client.subscribe("rs.headed").await?;
    let mut headers = HeaderMap::new();
    headers.insert("Color", "red");
    client.publish_with_headers("rs.headed", headers.clone(), "x".into()).await?;
    let message = messages.next().await.ok_or("the subscription ended")?;
    equal!(message.headers, Some(headers));
    Ok(())
}

async fn queue_groups(client: &Client) -> Claim {
    let one = client.queue_subscribe("rs.jobs", "workers".into()).await?;
    let two = client.queue_subscribe("rs.jobs", "workers".into()).await?;
    for _ in 0..100 {
        client.publish("rs.jobs", Bytes::new()).await?;
    }
    client.flush().await?;
    let both = futures::stream::select(one, two).take(100).count().await;
    equal!(both, 100);
    Ok(())
}

async fn unsubscribe_after(client: &Client) -> Claim {
    let mut messages = client.subscribe("rs.limited").await?;
    messages.unsubscribe_after(2).await?;
    for _ in 0..5 {
        client.publish("rs.limited", Bytes::new()).await?;
    }
    equal!(messages.count().await, 2);
    Ok(())
}

async fn drain(client: &Client) -> Claim {
    let mut messages = client.subscribe("rs.drained").await?;
    for _ in 0..50 {
        client.publish("rs.drained", Bytes::new()).await?;
    }
    client.flush().await?;
    messages.drain().await?;
    equal!(messages.count().await, 50);
    Ok(())
}

async fn streams(client: &Client) -> Claim {
    let context = jetstream::new(client.clone());
    let config = stream::Config { name: "RSS".into(), subjects: vec!["rss.*".into()], ..Default::default() };
    let mut made = context.create_stream(config.clone()).await?;
    equal!(context.publish("rss.a", "x".into()).await?.await?.sequence, 1);
    let named = || jetstream::message::PublishMessage::build().payload("x".into()).message_id("1");
    equal!(context.send_publish("rss.a", named()).await?.await?.duplicate, false);
    equal!(context.send_publish("rss.a", named()).await?.await?.duplicate, true);
    equal!(made.info().await?.state.messages, 2);
    context.update_stream(stream::Config { max_messages: 10, ..config }).await?;
    equal!(context.get_stream("RSS").await?.cached_info().config.max_messages, 10);
    equal!(made.get_raw_message(1).await?.payload, Bytes::from("x"));
    equal!(made.get_last_raw_message_by_subject("rss.a").await?.sequence, 2);
    equal!(made.delete_message(1).await?, true);
    equal!(made.purge().await?.purged, 1);
    let names: Vec<String> = context.stream_names().try_collect().await?;
    equal!(names.contains(&"RSS".to_owned()), true);
    equal!(context.delete_stream("RSS").await?.success, true);
    let missing = context.get_stream("RSS").await.err().ok_or("the stream is still there")?;
    equal!(missing.to_string().contains("10059"), true);
    Ok(())
}

async fn expectations(client: &Client) -> Claim {
    let context = jetstream::new(client.clone());
    context
        .create_stream(stream::Config {
            name: "RSE".into(),
            subjects: vec!["rse".into()],
            ..Default::default()
        })
        .await?;
    let expecting = jetstream::message::PublishMessage::build().expected_last_sequence(9);
    let refusal = context.send_publish("rse", expecting).await?.await.err().ok_or("it was accepted")?;
    equal!(refusal.kind(), jetstream::context::PublishErrorKind::WrongLastSequence);
    context.delete_stream("RSE").await?;
    Ok(())
}

async fn pull_consumers(client: &Client) -> Claim {
    let context = jetstream::new(client.clone());
    let made = context
        .create_stream(stream::Config {
            name: "RSP".into(),
            subjects: vec!["rsp".into()],
            ..Default::default()
        })
        .await?;
    for number in 0..100 {
        context.publish("rsp", number.to_string().into()).await?.await?;
    }
    let config = consumer::pull::Config { durable_name: Some("c".into()), ..Default::default() };
    let mut puller = made.create_consumer(config).await?;
    let mut first = puller.fetch().max_messages(10).messages().await?;
    let mut count = 0;
    while let Some(message) = first.next().await {
        message?.double_ack().await?;
        count += 1;
    }
    equal!(count, 10);
    let mut rest = puller.messages().await?.take(90);
    let mut next = 10;
    while let Some(message) = rest.next().await {
        let message = message?;
        equal!(message.payload, Bytes::from(next.to_string()));
        message.double_ack().await?;
        next += 1;
    }
    let info = puller.info().await?;
    equal!((info.num_pending, info.ack_floor.stream_sequence), (0, 100));
    let mut batch = puller.batch().max_messages(1).expires(Duration::from_millis(300)).messages().await?;
    equal!(batch.next().await.is_none(), true);
    made.delete_consumer("c").await?;
    context.delete_stream("RSP").await?;
    Ok(())
}

async fn negative_acks(client: &Client) -> Claim {
    let context = jetstream::new(client.clone());
    let made = context
        .create_stream(stream::Config {
            name: "RSN".into(),
            subjects: vec!["rsn".into()],
            ..Default::default()
        })
        .await?;
    context.publish("rsn", "x".into()).await?.await?;
    let puller = made
        .create_consumer(consumer::pull::Config { durable_name: Some("c".into()), ..Default::default() })
        .await?;
    let mut messages = puller.messages().await?;
    let first = messages.next().await.ok_or("no message")??;
    first.ack_with(jetstream::AckKind::Nak(None)).await?;
    let again = messages.next().await.ok_or("no message")??;
    equal!(again.info()?.delivered, 2);
    again.ack_with(jetstream::AckKind::Progress).await?;
    again.double_ack().await?;
    context.delete_stream("RSN").await?;
    Ok(())
}

async fn push_consumers(client: &Client) -> Claim {
    let context = jetstream::new(client.clone());
    let made = context
        .create_stream(stream::Config {
            name: "RSU".into(),
            subjects: vec!["rsu".into()],
            ..Default::default()
        })
        .await?;
    let pusher = made
        .create_consumer(consumer::push::Config {
            durable_name: Some("p".into()),
            deliver_subject: client.new_inbox(),
            ..Default::default()
        })
        .await?;
    let mut messages = pusher.messages().await?;
    for number in 0..50 {
        context.publish("rsu", number.to_string().into()).await?.await?;
    }
    for number in 0..50 {
        let message = messages.next().await.ok_or("no message")??;
        equal!(message.payload, Bytes::from(number.to_string()));
        message.double_ack().await?;
    }
    context.delete_stream("RSU").await?;
    Ok(())
}

async fn ordered_consumers(client: &Client) -> Claim {
    let context = jetstream::new(client.clone());
    let made = context
        .create_stream(stream::Config {
            name: "RSO".into(),
            subjects: vec!["rso".into()],
            ..Default::default()
        })
        .await?;
    for number in 0..200 {
        context.publish("rso", number.to_string().into()).await?.await?;
    }
    let pulled = made.create_consumer(consumer::pull::OrderedConfig::default()).await?;
    let mut messages = pulled.messages().await?;
    for number in 0..200 {
        equal!(messages.next().await.ok_or("no message")??.payload, Bytes::from(number.to_string()));
    }
    let config = consumer::push::OrderedConfig { deliver_subject: client.new_inbox(), ..Default::default() };
    let mut messages = made.create_consumer(config).await?.messages().await?;
    for number in 0..200 {
        equal!(messages.next().await.ok_or("no message")??.payload, Bytes::from(number.to_string()));
    }
    context.delete_stream("RSO").await?;
    Ok(())
}

async fn key_value(client: &Client) -> Claim {
    let context = jetstream::new(client.clone());
    let bucket = context
        .create_key_value(kv::Config { bucket: "rskv".into(), history: 5, ..Default::default() })
        .await?;
    equal!(bucket.put("color", "red".into()).await?, 1);
    equal!(bucket.get("color").await?, Some(Bytes::from("red")));
    equal!(bucket.update("color", "blue".into(), 1).await?, 2);
    equal!(bucket.update("color", "green".into(), 1).await.is_err(), true);
    bucket.create("size", "9".into()).await?;
    let mut keys: Vec<String> = bucket.keys().await?.try_collect().await?;
    keys.sort();
    equal!(keys, ["color", "size"]);
    let history: Vec<_> = bucket.history("color").await?.try_collect().await?;
    equal!(history.len(), 2);
    let mut watch = bucket.watch("size").await?;
    bucket.put("size", "10".into()).await?;
    equal!(watch.next().await.ok_or("the watch ended")??.value, Bytes::from("10"));
    bucket.delete("size").await?;
    equal!(bucket.get("size").await?, None);
    bucket.purge("color").await?;
    context.delete_key_value("rskv").await?;
    Ok(())
}

async fn tell(name: &str, claim: impl Future<Output = Claim>) {
    let verdict = match tokio::time::timeout(CLAIM_WITHIN, claim).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("not within {CLAIM_WITHIN:?}")),
    };
    match verdict {
        Ok(()) => println!("ok {name}"),
        Err(reason) => println!("failed {name}: {reason}"),
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::args().nth(1).ok_or("usage: weir-compat-async-nats URL")?;
    let client = async_nats::connect(url).await?;
    macro_rules! claims {
        ($($name:ident)*) => { $(tell(stringify!($name), $name(&client)).await;)* };
    }
    claims! {
        publish_and_subscribe request_and_reply no_responders headers_are_kept queue_groups unsubscribe_after drain
        streams expectations pull_consumers negative_acks push_consumers ordered_consumers key_value
    }
    Ok(())
}
