//! Opens connections whose frames are mended before lapin reads them. TLS is below that.

use std::{
    io::{self, Read, Write},
    net::SocketAddr,
    os::fd::{AsFd, AsRawFd},
    sync::Arc,
    time::{Duration, Instant},
};

use async_rs::{Runtime, Tokio, traits::Reactor, util::RuntimeParts};
use futures_io::{AsyncRead, AsyncWrite};
use futures_util::Stream;
use lapin::{
    AsyncTcpStream, ConnectionProperties,
    tcp::{AMQPUriTcpExt, OwnedTLSConfig},
    uri::AMQPUri,
};

use super::{outlet::Outbox, transport::Transport};

type Socket = AsyncTcpStream<<Tokio as Reactor>::TcpStream>;
type Kit = RuntimeParts<Tokio, Mending>;

/// Connects as `lapin::Connection::connect_uri_with_config` does, but for the stream; with it comes
/// the way out for messages.
pub(super) async fn connect(
    uri: AMQPUri,
    properties: ConnectionProperties,
    tls: OwnedTLSConfig,
) -> lapin::Result<(lapin::Connection, Arc<Outbox>)> {
    let tokio = Tokio::current();
    let runtime = Runtime::new(Kit::new(tokio.clone(), Mending(tokio.clone())));
    let below = Runtime::new(tokio);
    let outbox = Arc::new(Outbox::default());
    let shared = Arc::clone(&outbox);
    let open = async move |uri: AMQPUri, _: Runtime<Kit>| {
        let frame_max = uri.query.frame_max.unwrap_or(0);
        let socket = uri.connect_with_config_async(tls.as_ref(), &below).await?;
        let outbox = Arc::clone(&shared);
        Ok(AsyncTcpStream::Plain(Transport::new(
            socket, frame_max, outbox,
        )))
    };
    let connection = lapin::Connection::connector(uri, runtime, open, properties).await?;
    Ok((connection, outbox))
}

/// Tokio with another type of stream: lapin takes that type from its runtime.
#[derive(Debug, Clone)]
struct Mending(Tokio);

impl Reactor for Mending {
    type TcpStream = Transport<Socket>;
    type Sleep = <Tokio as Reactor>::Sleep;

    fn register<H: Read + Write + AsFd + AsRawFd + Send + 'static>(
        &self,
        socket: H,
    ) -> io::Result<impl AsyncRead + AsyncWrite + Send + Unpin + 'static> {
        self.0.register(socket)
    }

    fn sleep(&self, duration: Duration) -> Self::Sleep {
        self.0.sleep(duration)
    }

    fn interval(&self, duration: Duration) -> impl Stream<Item = Instant> + Send + 'static {
        self.0.interval(duration)
    }

    fn tcp_connect_addr(
        &self,
        address: SocketAddr,
    ) -> impl Future<Output = io::Result<Self::TcpStream>> + Send + 'static {
        let connecting = self.0.tcp_connect_addr(address);
        async {
            let socket = AsyncTcpStream::Plain(connecting.await?);
            Ok(Transport::new(socket, 0, Arc::default()))
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use lapin::{
        BasicProperties,
        options::{BasicGetOptions, BasicPublishOptions, QueueDeclareOptions},
        types::{AMQPValue, FieldArray, FieldTable},
    };
    use tokio::{
        io::copy_bidirectional,
        net::{TcpListener, TcpStream},
    };
    use tokio_rustls::{
        TlsAcceptor,
        rustls::{ServerConfig, crypto::ring},
    };

    use super::*;

    pub(in super::super) fn broker() -> AMQPUri {
        std::env::var("WARREN_TEST_AMQP_URL")
            .unwrap_or_else(|_| "amqp://guest:guest@127.0.0.1:5672/%2f".to_owned())
            .parse()
            .unwrap()
    }

    /// RabbitMQ behind TLS: the URL and the certificate to trust.
    pub(in super::super) async fn broker_with_tls() -> (AMQPUri, String) {
        let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let key = own.signing_key.serialize_der().try_into().unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![own.cert.der().clone()], key)
            .unwrap();
        (broker_behind(config).await, own.cert.pem())
    }

    /// RabbitMQ behind a server of TLS.
    pub(in super::super) async fn broker_behind(config: ServerConfig) -> AMQPUri {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let mut uri = broker();
        let address = (uri.authority.host.clone(), uri.authority.port);
        uri.scheme = lapin::uri::AMQPScheme::AMQPS;
        uri.authority.host = "localhost".to_owned();
        uri.authority.port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            let tls = TlsAcceptor::from(Arc::new(config));
            while let Ok((client, _)) = listener.accept().await {
                let Ok(mut client) = tls.accept(client).await else {
                    continue;
                };
                let mut server = TcpStream::connect(&address).await.unwrap();
                let _ = copy_bidirectional(&mut client, &mut server).await;
            }
        });
        uri
    }

    /// Sends a header that is nested more deeply than is read, and returns it as it comes back.
    async fn echoed(uri: AMQPUri, certificate: Option<String>) -> AMQPValue {
        let tls = OwnedTLSConfig {
            identity: None,
            cert_chain: certificate,
        };
        let (connection, _) = connect(uri, ConnectionProperties::default(), tls)
            .await
            .unwrap_or_else(|error| panic!("no RabbitMQ: {error}; start it"));
        let channel = connection.create_channel().await.unwrap();
        let own = QueueDeclareOptions {
            exclusive: true,
            ..QueueDeclareOptions::default()
        };
        let queue = channel.queue_declare("".into(), own, FieldTable::default());
        let queue = queue.await.unwrap().name().clone();
        let mut deep = AMQPValue::Void;
        for _ in 0..100 {
            let mut array = FieldArray::default();
            array.push(deep);
            deep = AMQPValue::FieldArray(array);
        }
        let mut headers = FieldTable::default();
        headers.insert("deep".into(), deep);
        let properties = BasicProperties::default().with_headers(headers);
        let (exchange, options) = ("".into(), BasicPublishOptions::default());
        let sent = channel.basic_publish(exchange, queue.clone(), options, b"body", properties);
        sent.await.unwrap();
        let got = channel.basic_get(queue, BasicGetOptions::default());
        let got = got.await.unwrap().expect("the message is there");
        assert_eq!(got.delivery.data, b"body");
        let headers = got.delivery.properties.headers().as_ref().unwrap();
        headers.inner()["deep"].clone()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn frames_are_mended_with_and_without_tls() {
        let plain = echoed(broker(), None).await;
        let text = format!("{plain:?}");
        assert_eq!(text.matches("FieldArray(FieldArray").count(), 32, "{text}");
        assert_eq!(text.matches("ByteArray(ByteArray").count(), 1, "{text}");
        let (uri, certificate) = broker_with_tls().await;
        assert_eq!(echoed(uri, Some(certificate)).await, plain);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_certificate_that_is_not_trusted_is_refused() {
        let (uri, _) = broker_with_tls().await;
        let connecting = connect(
            uri,
            ConnectionProperties::default(),
            OwnedTLSConfig::default(),
        );
        let within = std::time::Duration::from_secs(20);
        let refused = tokio::time::timeout(within, connecting).await;
        assert!(!matches!(refused, Ok(Ok(_))), "{refused:?}");
    }
}
