use serde_json::{Value, json};
use warren_plugin_api::{ScanOrder, Status};

use super::{completed, member, open, switchable::Backend, try_open, written};

async fn refused(name: &str, config: Value) -> String {
    try_open(name, config).await.unwrap_err().to_string()
}

#[tokio::test]
async fn a_wrong_key_within_a_member_is_named_with_its_place() {
    let backend = Backend::new();
    let mut wrong = member(&backend);
    wrong["config"]["color"] = json!("red");
    let config = json!({ "front": member(&backend), "back": wrong.clone() });
    let error = refused("tiered", config).await;
    assert!(error.contains("back.config.color: "), "{error}");
    assert!(error.contains("did you mean \"colour\"?"), "{error}");
    let config = json!({ "members": [member(&backend), wrong.clone()] });
    let error = refused("fanout", config).await;
    assert!(error.contains("members.1.config.color: "), "{error}");
    let inner = json!({
        "type": "tiered",
        "config": { "front": member(&backend), "back": wrong },
    });
    let config = json!({ "primary": inner, "secondary": member(&backend) });
    let error = refused("failover", config).await;
    assert!(
        error.contains("primary.config.back.config.color: "),
        "{error}"
    );
}

#[tokio::test]
async fn a_wrong_member_is_named() {
    let backend = Backend::new();
    let mut wrong = member(&backend);
    wrong["type"] = json!("switchabel");
    let config = json!({ "front": wrong, "back": member(&backend) });
    let error = refused("tiered", config).await;
    for said in [
        "front.type: ",
        "\"switchabel\"",
        "did you mean \"switchable\"?",
    ] {
        assert!(error.contains(said), "{said:?} is not in {error}");
    }
    let error = refused("tiered", json!({ "frnt": {}, "back": member(&backend) })).await;
    assert!(error.contains("did you mean \"front\"?"), "{error}");
    let error = refused("fanout", json!({ "members": [member(&backend)] })).await;
    assert!(error.contains("members: "), "{error}");
    let mut wrong = member(&backend);
    wrong["config"] = json!({});
    let config = json!({ "front": wrong, "back": member(&backend) });
    let error = refused("tiered", config).await;
    assert!(
        error.contains("front.config: \"name\" is a required property"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn compositions_can_be_members() {
    let backends: [Backend; 4] = std::array::from_fn(|_| Backend::new());
    let [a, b, c, d] = &backends;
    let store = open(
        "failover",
        json!({
            "primary": { "type": "tiered", "config": { "front": member(a), "back": member(b) } },
            "secondary": { "type": "fanout", "config": { "members": [member(c), member(d)] } },
        }),
    )
    .await;
    written(&store, &completed("before")).await;
    assert!(a.has("before").is_some() && b.has("before").is_some() && c.has("before").is_none());
    b.go_away();
    written(&store, &completed("meanwhile")).await;
    assert!(c.has("meanwhile").is_some() && d.has("meanwhile").is_some());
    assert_eq!(
        store.status("meanwhile".into()).await,
        Ok(Some(Status::Completed))
    );
    let capabilities = store.capabilities().unwrap();
    assert!(capabilities.durable && capabilities.scan && !capabilities.push);
    assert_eq!(capabilities.scan_order, ScanOrder::Unordered);
}

#[tokio::test]
async fn compositions_are_nested_to_some_depth_only() {
    let backend = Backend::new();
    let mut inner = member(&backend);
    for _ in 0..5 {
        inner = json!({
            "type": "tiered",
            "config": { "front": member(&backend), "back": inner },
        });
    }
    let error = refused("tiered", inner["config"].clone()).await;
    assert!(
        error.contains("back: ") && error.contains("nested"),
        "{error}"
    );
}
