//! What clients of the HTTP interface rely on.

use crate::testing::{World, web};
use mizzen_api::v1;
use proptest::prelude::*;
use serde_json::{Value, json};

fn world_with(apps: &[Value]) -> World {
    let mut world = World::new();
    for app in apps {
        let (status, body) = world.request("POST", "/v2/apps", app);
        assert_eq!(status, 201, "{body}");
    }
    world
}

#[test]
fn statuses_that_clients_branch_on() {
    let none = Value::Null;
    #[rustfmt::skip]
    let table: &[(&str, &str, Value, u16)] = &[
        ("GET",    "/ping",                             none.clone(), 200),
        ("GET",    "/metrics",                          none.clone(), 200),
        ("GET",    "/v2/apps",                          none.clone(), 200),
        ("GET",    "/v2//apps//web",                    none.clone(), 200),
        ("GET",    "/v2/apps//web",                   none.clone(), 200),
        ("GET",    "/v2/apps/web/versions",             none.clone(), 200),
        ("GET",    "/v2/apps/web/tasks",                none.clone(), 200),
        ("GET",    "/v2/apps/web/versions/2000-01-01T00:00:00.000Z", none.clone(), 404),
        ("GET",    "/v2/apps/gone",                     none.clone(), 404),
        ("GET",    "/v2/apps/*",                        none.clone(), 200),
        ("GET",    "/v2/apps?label=a b",                none.clone(), 400),
        ("DELETE", "/v2/apps/gone",                     none.clone(), 404),
        ("POST",   "/v2/apps/gone/restart",             none.clone(), 404),
        ("POST",   "/v2/apps/web/restart",              none.clone(), 409),
        ("POST",   "/v2/apps/web/restart?force=True",   none.clone(), 200),
        ("PATCH",  "/v2/apps/gone",                     json!({"cmd": "x"}), 404),
        ("PUT",    "/v2/apps/new",                      json!({"cmd": "x"}), 201),
        ("PUT",    "/v2/apps/other",                    json!({"id": "/web", "cmd": "x"}), 422),
        ("PUT",    "/v2/apps/web",                      json!({"version": "x", "cmd": "x"}), 422),
        ("PUT",    "/v2/apps/web",                      json!([1]), 422),
        ("PUT",    "/v2/apps",                          json!({}), 422),
        ("POST",   "/v2/apps",                          web(json!({})), 409),
        ("POST",   "/v2/apps",                          none.clone(), 400),
        ("POST",   "/v2/apps",                          json!({"id": "/x"}), 422),
        ("POST",   "/v2/apps",                          json!([]), 422),
        ("POST",   "/v2/tasks/delete",                  json!({"ids": []}), 200),
        ("POST",   "/v2/tasks/delete",                  json!({}), 422),
        ("POST",   "/v2/tasks/delete?scale=true&wipe=true", json!({"ids": []}), 400),
        ("DELETE", "/v2/apps/web/tasks/x",              none.clone(), 404),
        ("GET",    "/v2/tasks?status=running",          none.clone(), 200),
        ("GET",    "/v2/deployments",                   none.clone(), 200),
        ("DELETE", "/v2/deployments/x",                 none.clone(), 404),
        ("GET",    "/v2/queue",                         none.clone(), 200),
        ("GET",    "/v2/queue/why",                     none.clone(), 200),
        ("DELETE", "/v2/queue/gone/delay",              none.clone(), 404),
        ("GET",    "/v2/info",                          none.clone(), 200),
        ("GET",    "/v2/leader",                        none.clone(), 200),
        ("GET",    "/v2/groups",                        none.clone(), 200),
        ("GET",    "/v2/groups/gone",                   none.clone(), 404),
        ("PUT",    "/v2/groups/x",                      json!({}), 501),
        ("POST",   "/v2/pods",                          json!({}), 501),
        ("GET",    "/v2/nothing",                       none.clone(), 404),
        ("DELETE", "/v2/info",                          none, 405),
    ];
    for (method, path, body, want) in table {
        let mut world = world_with(&[web(json!({}))]);
        let (status, answer) = world.request(method, path, body);
        assert_eq!(status, *want, "{method} {path}: {answer}");
        assert!(status < 400 || answer["message"].is_string(), "{method} {path}: {answer}");
    }
}

/// Names that a client of its time knows; it fails on others.
#[test]
fn answers_have_no_unknown_members() {
    let app = "acceptedResourceRoles args backoffFactor backoffSeconds cmd constraints container cpus dependencies \
        deployments disk env executor healthChecks id role instances killSelection labels lastTaskFailure \
        maxLaunchDelaySeconds mem requirePorts tasks tasksRunning tasksStaged tasksHealthy \
        taskKillGracePeriodSeconds tasksUnhealthy upgradeStrategy unreachableStrategy user version versionInfo \
        taskStats portDefinitions gpus networks";
    let task = "appId healthCheckResults host id ports servicePorts slaveId stagedAt startedAt version ipAddresses \
        state localVolumes region zone role";
    let deployment =
        "affectedApps currentActions currentStep id steps totalSteps version affectedPods";
    let queue = "app overdue count delay since processedOffersSummary lastUnusedOffers";
    let info = "name version buildref elected leader frameworkId marathon_config zookeeper_config http_config";
    let group = "apps dependencies groups id pods version";
    let mut world =
        world_with(&[web(json!({"instances": 30, "user": "u", "taskKillGracePeriodSeconds": 1}))]);
    world.offer(1);
    world.run_from(0);
    let path =
        "/v2/apps?embed=apps.tasks&embed=apps.taskStats&embed=apps.failures&embed=apps.counts";
    let apps = world.get(path);
    #[rustfmt::skip]
    let table = [
        (apps["apps"][0].clone(), app),
        (world.get("/v2/apps/web")["app"].clone(), app),
        (world.get("/v2/tasks")["tasks"][0].clone(), task),
        (world.get("/v2/deployments")[0].clone(), deployment),
        (world.get("/v2/queue")["queue"][0].clone(), queue),
        (world.get("/v2/info"), info),
        (world.get("/v2/groups?embed=group.apps"), group),
    ];
    for (value, known) in table {
        let known: Vec<&str> = known.split_whitespace().collect();
        let members = value.as_object().unwrap_or_else(|| panic!("{value} is no object"));
        for name in members.keys() {
            assert!(known.contains(&name.as_str()), "{name} is not known");
        }
    }
    assert_eq!(apps["apps"][0]["taskStats"]["totalSummary"]["stats"]["counts"]["running"], 2);
}

#[test]
fn a_new_app_is_answered_with_its_place_and_deployment() {
    let mut world = World::new();
    let body = web(json!({"instances": 0})).to_string();
    let request = super::Request {
        method: "POST",
        path: "/v2/apps",
        query: "",
        accept: "",
        body: body.as_bytes(),
    };
    let reply = world.services.handle_request(&request, world.now);
    let header =
        |name| reply.headers.iter().find(|(n, _)| *n == name).map(|(_, value)| value.clone());
    assert_eq!(header("Location").as_deref(), Some("/v2/apps/web"));
    assert_eq!(header("X-Marathon-Leader").as_deref(), Some("http://localhost:8080"));
    let super::Body::Json(body) = &reply.body else { panic!("{reply:?}") };
    assert_eq!(body["deployments"][0]["id"].as_str(), header("Marathon-Deployment-Id").as_deref());
    assert_eq!(body["version"], "2023-11-14T22:13:20.000Z");
}

#[test]
fn partial_updates_keep_what_they_do_not_name() {
    let cases = [
        (json!({"instances": 3}), "/cmd", json!("true")),
        (json!({"args": ["/bin/x"]}), "/cmd", Value::Null),
        (json!({"env": {"B": "2"}}), "/env", json!({"B": "2"})),
        (json!({"env": null}), "/env", json!({"A": "1"})),
        (json!({"networks": [{"mode": "container"}]}), "/portDefinitions", json!([])),
    ];
    for (update, pointer, want) in cases {
        let mut world = world_with(&[web(json!({"env": {"A": "1"}, "instances": 0}))]);
        let (status, body) = world.request("PUT", "/v2/apps/web", &update);
        assert_eq!(status, 200, "{body}");
        let app = world.get("/v2/apps/web")["app"].clone();
        assert_eq!(app.pointer(pointer).cloned().unwrap_or_default(), want, "{update}");
    }
    let mut world = world_with(&[web(json!({"env": {"A": "1"}, "instances": 0}))]);
    world.request("PUT", "/v2/apps/web?partialUpdate=false", &json!({"cmd": "x", "instances": 0}));
    assert_eq!(world.get("/v2/apps/web")["app"]["env"], json!({}));
}

#[test]
fn an_older_version_comes_back() {
    let mut world = world_with(&[web(json!({"instances": 0}))]);
    let first = world.get("/v2/apps/web")["app"]["version"].clone();
    world.request("PUT", "/v2/apps/web", &json!({"cmd": "false"}));
    assert_eq!(world.get("/v2/apps/web/versions")["versions"].as_array().unwrap().len(), 2);
    let path = format!("/v2/apps/web/versions/{}", first.as_str().unwrap());
    assert_eq!(world.get(&path)["cmd"], "true");
    let (status, _) = world.request("PUT", "/v2/apps/web", &json!({"version": first}));
    assert_eq!(status, 200);
    assert_eq!(world.get("/v2/apps/web")["app"]["cmd"], "true");
}

#[test]
fn an_update_that_changes_nothing_restarts_nothing() {
    let mut world = world_with(&[web(json!({"cpus": 0.1, "mem": 1}))]);
    world.offer(1);
    world.run_from(0);
    let before = world.get("/v2/apps/web")["app"]["version"].clone();
    let (status, body) = world.request("PUT", "/v2/apps/web", &json!({"cmd": "true"}));
    assert!(status == 200 && body["deploymentId"].is_string());
    assert_eq!(world.get("/v2/apps/web")["app"]["version"], before);
    assert_eq!(world.get("/v2/deployments"), json!([]));
}

#[test]
fn apps_are_found_by_id_command_and_label() {
    let app = |id: &str, tier: &str| json!({"id": id, "cmd": format!("run {id}"), "instances": 0, "labels": {"tier": tier}});
    let mut world =
        world_with(&[app("/shop/cart", "web"), app("/shop/db", "data"), app("/blog", "web")]);
    #[rustfmt::skip]
    let table = [
        ("", 3), ("?id=shop", 2), ("?cmd=blog", 1), ("?label=tier%3D%3Dweb", 2), ("?label=tier+in+(data,x)", 1), ("?id=shop&label=tier!=web", 1),
    ];
    for (query, want) in table {
        let apps = world.get(&format!("/v2/apps{query}"));
        assert_eq!(apps["apps"].as_array().unwrap().len(), want, "{query}");
    }
    assert_eq!(world.get("/v2/apps/shop/*")["*"].as_array().unwrap().len(), 2);
    let root = world.get("/v2/groups");
    assert_eq!(
        (root["apps"][0]["id"].clone(), root["groups"][0]["id"].clone()),
        (json!("/blog"), json!("/shop"))
    );
    assert_eq!(world.get("/v2/groups/shop")["apps"].as_array().unwrap().len(), 2);
}

#[test]
fn every_problem_of_a_bad_app_is_answered() {
    let mut world = World::new();
    let (status, body) =
        world.request("POST", "/v2/apps", &json!({"id": "/a", "cmd": "x", "cpus": -1, "mem": -1}));
    assert_eq!(status, 422);
    assert_eq!(body["message"], "Object is not valid");
    let paths: Vec<_> =
        body["details"].as_array().unwrap().iter().map(|d| d["path"].clone()).collect();
    assert_eq!(paths, ["/cpus", "/mem"]);
    assert!(body["details"][0]["errors"].is_array());
}

/// JSON with the members of an app and values of any kind.
fn any_app() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[a-z/._-]{0,12}".prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    let names = "id|cmd|args|cpus|mem|disk|gpus|instances|env|labels|container|networks|mode|name|portMappings|\
        containerPort|hostPort|portDefinitions|port|protocol|healthChecks|portIndex|constraints|upgradeStrategy|\
        minimumHealthCapacity|backoffSeconds|backoffFactor|unreachableStrategy|killSelection|dependencies|version";
    let value = leaf.prop_recursive(4, 40, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(names, inner, 0..6)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    });
    (value, any::<bool>()).prop_map(|(value, plausible)| match value {
        Value::Object(members) if plausible => {
            let mut app = web(json!({}));
            app.as_object_mut().unwrap().extend(members);
            app
        }
        other => other,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_json_makes_it_panic(app in any_app(), update in any_app(), path in "[/a-z%*0-9]{0,20}") {
        let mut world = World::new();
        world.request("POST", "/v2/apps", &app);
        world.request("PUT", "/v2/apps/web", &update);
        world.request("PUT", "/v2/apps", &json!([app, update]));
        world.offer(2);
        world.run_from(0);
        world.restart();
        world.subscribe();
        world.offer(1);
        for method in ["GET", "PUT", "POST", "DELETE"] {
            let (status, body) = world.request(method, &format!("/v2/{path}"), &update);
            prop_assert!(status >= 200 && (status < 400 || body["message"].is_string()));
        }
    }

    #[test]
    fn no_bytes_make_it_panic(body in prop::collection::vec(any::<u8>(), 0..200), query in ".{0,30}") {
        let mut world = World::new();
        let request = super::Request { method: "POST", path: "/v2/apps", query: &query, accept: "", body: &body };
        let reply = world.services.handle_request(&request, world.now);
        prop_assert!(reply.status >= 400);
    }
}

#[test]
fn what_finished_has_not_failed() {
    for (state, ended, last) in [
        (v1::TaskState::TaskFinished, "copy finished", "last end: TASK_FINISHED"),
        (v1::TaskState::TaskFailed, "copy failed", "last failure: TASK_FAILED"),
    ] {
        let mut world = World::new();
        world.post(json!({}));
        world.offer(1);
        world.run_from(0);
        let id = world.ids().remove(0);
        world.update(&id, state, None);
        let why = world.get("/v2/queue/why")[0]["why"].as_str().unwrap().to_owned();
        assert!(why.contains(ended) && why.contains(last), "{why}");
    }
}

#[test]
fn each_bad_app_of_a_list_is_named() {
    let mut world = World::new();
    let list = json!([
        {"id": "/good", "cmd": "true"},
        {"id": "/a", "cmd": "true", "cpus": -1},
        {"id": "/b"},
    ]);
    let (status, body) = world.request("PUT", "/v2/apps", &list);
    assert_eq!(status, 422, "{body}");
    let details = body["details"].as_array().unwrap();
    let found: Vec<_> =
        details.iter().map(|d| (d["path"].clone(), d["errors"].to_string())).collect();
    let [(cpus, negative), (whole, empty)] = &found[..] else { panic!("{found:?}") };
    assert_eq!((cpus, whole), (&json!("/(1)/cpus"), &json!("/(2)")));
    assert!(negative.contains("app '/a'") && empty.contains("app '/b'"), "{found:?}");
    assert_eq!(world.get("/v2/apps"), json!({"apps": []}), "all of them or none");
    let (status, body) = world.request("POST", "/v2/apps", &list);
    assert_eq!(status, 422);
    assert!(body.to_string().contains("can be PUT"), "{body}");
}

#[test]
fn old_load_balancers_get_tasks_as_text() {
    let host = json!({"id": "/shop/cart", "ports": [0, 0]});
    let container = json!({"networks": [{"mode": "container"}],
        "container": {"portMappings": [{"containerPort": 80, "servicePort": 10_500},
            {"containerPort": 81, "hostPort": 0, "servicePort": 10_501}]}});
    let none = json!({"id": "/batch", "portDefinitions": []});
    let mut world = World::new();
    for app in [host, container, none] {
        world.post(app);
    }
    world.offer(3);
    world.run_from(0);
    let task = world.ids().into_iter().find(|id| id.starts_with("web.")).unwrap();
    let address = v1::network_info::IpAddress {
        ip_address: Some("9.0.0.2".to_owned()),
        ..v1::network_info::IpAddress::default()
    };
    let network = v1::NetworkInfo { ip_addresses: vec![address], ..Default::default() };
    world.status(v1::TaskStatus {
        task_id: v1::TaskId { value: task },
        state: v1::TaskState::TaskRunning.into(),
        container_status: Some(v1::ContainerStatus {
            network_infos: vec![network],
            ..v1::ContainerStatus::default()
        }),
        ..v1::TaskStatus::default()
    });
    let tasks = world.get("/v2/tasks")["tasks"].clone();
    let of = |app: &str| tasks.as_array().unwrap().iter().find(|t| t["appId"] == app).unwrap();
    let (cart, batch) = (of("/shop/cart").clone(), of("/batch")["host"].clone());
    let web = of("/web").clone();
    let text = |world: &mut World, accept: &str| {
        let request =
            super::Request { method: "GET", path: "/v2/tasks", query: "", accept, body: b"" };
        match world.services.handle_request(&request, world.now).body {
            super::Body::Text(text) => text,
            other => format!("{other:?}"),
        }
    };
    let (host, ports) = (cart["host"].as_str().unwrap(), &cart["ports"]);
    let want = [
        format!("batch\t \t{}\t\n", batch.as_str().unwrap()),
        format!("shop_cart\t{}\t{host}:{}\t\n", cart["servicePorts"][0], ports[0]),
        format!("shop_cart\t{}\t{host}:{}\t\n", cart["servicePorts"][1], ports[1]),
        "web\t10500\t9.0.0.2:80\t\n".to_owned(),
        format!("web\t10501\t{}:{}\t\n", web["host"].as_str().unwrap(), web["ports"][0]),
    ]
    .concat();
    assert_eq!(text(&mut world, "text/plain"), want);
    assert_eq!(text(&mut world, "text/plain;q=0.9, */*"), want);
    for accept in ["", "application/json", "application/json, text/plain", "*/*"] {
        assert!(text(&mut world, accept).starts_with("Json"), "{accept}");
    }
}

#[test]
fn the_examples_are_good_apps() {
    for text in [
        include_str!("../../../../examples/web.json"),
        include_str!("../../../../examples/host.json"),
        include_str!("../../../../examples/bridge.json"),
    ] {
        let mut world = world_with(&[serde_json::from_str(text).unwrap()]);
        world.offer(1);
        let task = &world.launched[0];
        let port = &task.discovery.as_ref().unwrap().ports.as_ref().unwrap().ports[0];
        let http = task.health_check.as_ref().unwrap().http.as_ref().unwrap();
        assert_eq!(http.path.as_deref(), Some("/"), "{}", task.name);
        let network = task.container.as_ref().and_then(|c| c.network_infos.first());
        match network.and_then(|network| network.port_mappings.first()) {
            // Clients come by the host's port, the agent asks in the container.
            Some(mapping) => {
                assert_eq!((mapping.host_port, mapping.container_port), (port.number, http.port));
            }
            None => assert_eq!(http.port, port.number, "{}", task.name),
        }
        let labels = &port.labels.as_ref().unwrap().labels;
        assert!(labels.iter().any(|label| label.key == "VIP_0"));
    }
}
