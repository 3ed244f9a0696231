//! The real servers that tests talk to: Apache Kafka from Maven and S3 by moto from PyPI, on loopback, on free ports.
//!
//! Each is fetched into the target folder, started once per test run, and stopped when the test process ends, however it
//! ends: a shell waits at the other end of a pipe and kills its server when the pipe closes. A part that cannot be had fails
//! the test that needs it.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};

const MOTO_VERSION: &str = "5.2.5";

/// A folder below the target folder, kept between runs.
pub fn cache(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("real-parts").join(name);
    fs::create_dir_all(&path).expect("the target folder can be written");
    path
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("loopback has free ports").port()
}

/// A server that ends with this process.
struct Server {
    _child: Child,
    /// Closing it stops the server.
    _lifeline: ChildStdin,
}

/// Starts `command` under a shell that kills it when our end of its standard input closes.
fn start(command: &[&str], log: &Path, folder: &Path) -> Server {
    let script = r#"log="$1"; shift; "$@" >"$log" 2>&1 </dev/null & server=$!; cat >/dev/null; kill -9 "$server" 2>/dev/null"#;
    let mut child = Command::new("sh")
        .args(["-c", script, "sh"])
        .arg(log)
        .args(command)
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("sh can be started");
    let lifeline = child.stdin.take().expect("its input is a pipe");
    Server { _child: child, _lifeline: lifeline }
}

fn run(command: &mut Command, needs: &str) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?} cannot be started ({error}); install it: {needs}"));
    assert!(
        output.status.success(),
        "{command:?} failed; needed: {needs}\n{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

/// A Python environment in `folder` with one package of PyPI in it, made at the first call and kept.
pub fn python_venv(folder: &Path, package: &str, version: &str) -> PathBuf {
    let venv = folder.join(format!("venv-{version}"));
    let ready = venv.join("ready");
    let needs = "Python 3 with venv (apt-get install python3-venv)";
    if !ready.exists() {
        run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&venv), needs);
        let wanted = format!("{package}=={version}");
        run(Command::new(venv.join("bin/pip")).args(["install", "-q", "--disable-pip-version-check", &wanted]), needs);
        fs::write(&ready, "").expect("the venv can be written");
    }
    venv
}

/// A running Kafka broker.
pub struct Kafka {
    pub bootstrap: String,
    _server: Server,
}

/// The broker of this test run, started at the first call.
pub fn kafka() -> &'static Kafka {
    static KAFKA: OnceLock<Kafka> = OnceLock::new();
    KAFKA.get_or_init(Kafka::start)
}

impl Kafka {
    fn start() -> Self {
        let folder = cache("kafka");
        let class_path = folder.join("class-path.txt");
        let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("kafka");
        if !class_path.exists() {
            let fresh = folder.join("class-path.new");
            run(
                Command::new("mvn")
                    .args(["-q", "-B", "dependency:build-classpath", "-DincludeScope=runtime"])
                    .arg(format!("-Dmdep.outputFile={}", fresh.display()))
                    .arg("-f")
                    .arg(sources.join("pom.xml")),
                "Java 17 and Maven (apt-get install openjdk-17-jdk-headless maven)",
            );
            fs::rename(&fresh, &class_path).expect("the class path was written");
        }
        let class_path = fs::read_to_string(&class_path).expect("the class path can be read");
        let (port, controller) = (free_port(), free_port());
        let data = folder.join(format!("data-{}", std::process::id()));
        let _ = fs::remove_dir_all(&data);
        fs::create_dir_all(&data).expect("the broker's folder can be made");
        let properties = data.join("server.properties");
        fs::write(&properties, server_properties(port, controller, &data)).expect("the broker's folder can be written");
        let properties = properties.to_str().expect("the path is UTF-8");
        let java = ["java", "-Xms128m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"];
        let logging = format!("-Dlog4j2.configurationFile={}", sources.join("log4j2.properties").display());
        run(
            Command::new(java[0])
                .args(&java[1..])
                .arg(&logging)
                .args(["-cp", class_path.trim(), "kafka.tools.StorageTool"])
                .args(["format", "--cluster-id", "dGhhbHdlZy10ZXN0cy0wMQ", "--standalone", "--config", properties]),
            "Java 17 (apt-get install openjdk-17-jre-headless)",
        );
        let mut command = java.to_vec();
        command.extend([logging.as_str(), "-cp", class_path.trim(), "kafka.Kafka", properties]);
        let log = data.join("broker.log");
        let kafka = Kafka { bootstrap: format!("127.0.0.1:{port}"), _server: start(&command, &log, &data) };
        kafka.wait_until_ready(&log);
        kafka
    }

    fn wait_until_ready(&self, log: &Path) {
        let start = Instant::now();
        loop {
            let consumer: BaseConsumer = self.config().create().expect("a consumer needs only an address");
            if consumer.fetch_metadata(None, Duration::from_secs(2)).is_ok_and(|metadata| !metadata.brokers().is_empty()) {
                return;
            }
            assert!(
                start.elapsed() < Duration::from_secs(90),
                "Kafka did not answer within 90 s; its log:\n{}",
                fs::read_to_string(log).unwrap_or_default()
            );
        }
    }

    pub fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.bootstrap).set("allow.auto.create.topics", "false");
        config
    }

    pub fn create_topic(&self, name: &str, partitions: i32) {
        let admin: AdminClient<DefaultClientContext> = self.config().create().expect("an admin client needs only an address");
        let topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
        let created = futures::executor::block_on(admin.create_topics([&topic], &AdminOptions::new()));
        for result in created.expect("the broker answers") {
            result.unwrap_or_else(|(topic, error)| panic!("topic {topic}: {error}"));
        }
    }
}

fn server_properties(port: u16, controller: u16, data: &Path) -> String {
    format!(
        "process.roles=broker,controller
node.id=1
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
controller.quorum.bootstrap.servers=127.0.0.1:{controller}
log.dirs={}
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=3
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=3
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
transaction.abort.timed.out.transaction.cleanup.interval.ms=1000
",
        data.join("log").display()
    )
}

/// A running S3-compatible server without access control.
pub struct S3 {
    pub endpoint: String,
    _server: Server,
}

/// The object store of this test run, started at the first call.
pub fn s3() -> &'static S3 {
    static S3_SERVER: OnceLock<S3> = OnceLock::new();
    S3_SERVER.get_or_init(S3::start)
}

impl S3 {
    fn start() -> Self {
        let folder = cache("moto");
        let venv = python_venv(&folder, "moto[server,s3]", MOTO_VERSION);
        let port = free_port();
        let program = venv.join("bin/moto_server");
        let text = port.to_string();
        let command = [program.to_str().expect("the path is UTF-8"), "-H", "127.0.0.1", "-p", &text];
        let log = folder.join(format!("moto-{}.log", std::process::id()));
        let server = start(&command, &log, &folder);
        let start = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(
                start.elapsed() < Duration::from_secs(60),
                "moto did not start:\n{}",
                fs::read_to_string(&log).unwrap_or_default()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
        S3 { endpoint: format!("http://127.0.0.1:{port}"), _server: server }
    }

    /// The environment that makes `s3://` addresses reach this server.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        vec![
            ("AWS_ENDPOINT_URL", self.endpoint.clone()),
            ("AWS_ACCESS_KEY_ID", "test".to_string()),
            ("AWS_SECRET_ACCESS_KEY", "test".to_string()),
            ("AWS_REGION", "us-east-1".to_string()),
            ("AWS_ALLOW_HTTP", "true".to_string()),
        ]
    }
}

#[test]
fn kafka_starts_and_takes_topics() {
    kafka().create_topic("real-parts-smoke", 3);
}

#[test]
fn s3_starts() {
    assert!(s3().endpoint.starts_with("http://127.0.0.1:"));
}
