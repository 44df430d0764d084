//! Slow servers do not slow down others.

use super::*;

/// A worker has many exchanges at once. One that stalls must not delay the others.
#[test]
fn a_request_that_stalls_delays_no_other_of_its_worker() {
    let gate = Gate::default();
    let opens = gate.clone();
    let origin = Origin::start(move |visit| {
        while let Some(request) = visit.request() {
            if request.line.contains("/stall") {
                gate.wait();
            }
            visit.send(ok("well"));
        }
    });
    let balancer = Evenkeel::before(&[&origin], patient(1, 1, 1000));
    let mut many = clients(&balancer, 40);
    ask_all(&mut many);
    let mut stalled = Client::to(&balancer);
    stalled.send("GET /stall HTTP/1.1\r\nHost: h\r\n\r\n");
    origin.until("it stalls", |seen| seen.bytes.iter().any(|bytes| contains(bytes, b"/stall")));
    for _ in 0..20 {
        ask_all(&mut many);
    }
    assert!(stalled.is_quiet());
    opens.open();
    assert_eq!(stalled.response().text(), "well");
}

fn ask_all(many: &mut [Client]) {
    for client in many.iter_mut() {
        client.send(GET);
    }
    for client in many.iter_mut() {
        assert_eq!(client.response().status, 200);
    }
}

fn contains(bytes: &[u8], wanted: &[u8]) -> bool {
    bytes.windows(wanted.len()).any(|window| window == wanted)
}
