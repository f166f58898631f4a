//! What can be known about a payload, and how does a value become one and come back?

use backlog::{Encoding, Error, HeaderValue, Message};
use serde::{Deserialize, Serialize};

use crate::harness::everywhere;

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Mail {
    to: String,
    tries: u32,
}

fn mail() -> Mail {
    Mail { to: "ada@example.org".into(), tries: 3 }
}

everywhere! {
    fn kind_and_headers_come_with_the_payload_after_a_reopening_too(world: &World) {
        let queue = world.open();
        let message = Message::new("hello").kind("email/2").header("trace", "a1").header("try", 7).header("trace", true);
        queue.push_batch([Message::from("plain"), message]).unwrap();
        queue.close().unwrap();

        let queue = world.open();
        let jobs = queue.consumer().unwrap().recv_batch(2, std::time::Duration::ZERO).unwrap();

        assert_eq!((jobs[0].payload(), jobs[0].kind(), jobs[0].headers().count()), (&b"plain"[..], None, 0));
        assert_eq!((jobs[1].payload(), jobs[1].kind()), (&b"hello"[..], Some("email/2")));
        let headers: Vec<_> = jobs[1].headers().collect();
        let expected = [("trace", "a1".into()), ("try", HeaderValue::Int(7)), ("trace", true.into())];
        assert_eq!(headers, expected);
        assert_eq!(jobs[1].header("trace").unwrap().as_str(), Some("a1"));
        assert_eq!(jobs[1].header("none"), None);
    }

    fn a_value_comes_back_by_the_mark_that_is_stored(world: &World) {
        let queue = world.open();
        queue.push(Message::json(&mail()).unwrap()).unwrap();
        queue.push(Message::bincode(&mail()).unwrap()).unwrap();
        let worker = queue.consumer().unwrap();

        for encoding in [Encoding::Json, Encoding::Bincode] {
            let job = worker.try_recv().unwrap().unwrap();

            assert_eq!(job.encoding(), Some(encoding));
            assert_eq!(job.decode::<Mail>().unwrap(), mail());
            job.ack().unwrap();
        }
    }

    fn json_bears_fields_that_came_and_went(world: &World) {
        #[derive(Serialize)]
        struct Newer<'a> { language: &'a str, tries: u32, to: &'a str }
        let queue = world.open();
        queue.push(Message::json(&Newer { language: "de", tries: 3, to: "ada@example.org" }).unwrap()).unwrap();

        let job = queue.consumer().unwrap().recv().unwrap();

        assert_eq!(job.decode::<Mail>().unwrap(), mail());
    }

    fn what_is_not_the_value_asked_for_can_still_be_rejected(world: &World) {
        let queue = world.open();
        queue.push(Message::json("only text").unwrap().kind("note/1")).unwrap();
        queue.push("plain bytes").unwrap();
        let worker = queue.consumer().unwrap();

        for expected in ["(kind \"note/1\")", "pushed as plain bytes"] {
            let job = worker.try_recv().unwrap().unwrap();
            let error = job.decode::<Mail>().unwrap_err();

            assert!(matches!(error, Error::Decode { offset, .. } if offset == job.offset()), "{error}");
            assert!(error.to_string().contains(expected), "{error}");
            job.reject(error).unwrap();
        }
        assert_eq!(queue.group("default").unwrap().stats().dead, 2);
    }

    fn what_cannot_be_a_name_is_refused_and_nothing_is_pushed(world: &World) {
        let queue = world.open();
        let long = "n".repeat(256);
        let bad = [
            Message::new("x").kind(""),
            Message::new("x").kind(&long[..]),
            Message::new("x").header("", 1),
            Message::new("x").header(&long[..], 1),
        ];

        for message in &bad {
            let error = queue.push(message).unwrap_err();
            assert!(matches!(error, Error::Invalid { .. }), "{error}");
            queue.push_batch([Message::from("good"), message.into()]).unwrap_err();
            queue.push_deferred(message).unwrap_err();
        }
        let large = Message::new("x").header("h", vec![0_u8; 1 << 24]);
        assert!(matches!(queue.push(&large), Err(Error::TooLarge { .. })));
        assert_eq!(queue.stats().messages, 0);
    }
}
