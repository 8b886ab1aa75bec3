//! The closed sets of label values.

/// A closed set of label values.
pub trait Label: Copy + 'static {
    /// Every value, in the order of [`Label::index`].
    const ALL: &'static [Self];
    /// The place in [`Label::ALL`].
    fn index(self) -> usize;
    /// The label's text.
    fn name(self) -> &'static str;
}

macro_rules! labels {
    ($(#[$doc:meta])* $type:ident { $($(#[$variant_doc:meta])* $variant:ident = $name:literal),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $type { $($(#[$variant_doc])* $variant),* }
        impl Label for $type {
            const ALL: &'static [Self] = &[$(Self::$variant),*];
            fn index(self) -> usize { self as usize }
            fn name(self) -> &'static str { match self { $(Self::$variant => $name),* } }
        }
    };
}

labels! {
    /// What a connection became.
    Kind {
        /// A WebSocket of the control plane: judged.
        Gateway = "gateway",
        /// Any other upgrade: never judged.
        Tunnel = "tunnel",
    }
}
impl Kind {
    /// The kind of a connection that is judged, or not.
    #[must_use]
    pub fn of(judged: bool) -> Self {
        if judged { Self::Gateway } else { Self::Tunnel }
    }
}
labels! {
    /// A direction of a relay.
    Direction {
        /// From the client.
        ToGateway = "to_gateway",
        /// From the gateway.
        ToClient = "to_client",
    }
}
labels! {
    /// Who ended a relay.
    Initiator {
        /// The client.
        Client = "client",
        /// The gateway.
        Gateway = "gateway",
        /// seqgate itself, when it drains.
        Seqgate = "seqgate",
    }
}
labels! {
    /// Why a client was turned away by seqgate itself.
    Rejection {
        /// As many connections as allowed.
        Limit = "limit",
        /// A request that two parsers could read differently.
        BadRequest = "bad_request",
        /// A request head larger than the limit.
        HeaderTooLarge = "header_too_large",
        /// A request head that did not come in time.
        HeaderTimeout = "header_timeout",
        /// The gateway did not accept the connection.
        Unreachable = "upstream_unreachable",
        /// The gateway did not accept the connection in time.
        ConnectTimeout = "upstream_timeout",
        /// The gateway's certificate was not accepted, or the TLS handshake with it failed otherwise.
        UpstreamTls = "upstream_tls",
        /// A client's TLS handshake did not come to its end.
        Handshake = "tls_handshake",
        /// The gateway closed or answered what is not HTTP.
        BadGateway = "upstream_bad_answer",
        /// A request that starts a run, one too many.
        Guard = "guard",
    }
}
labels! {
    /// How it went when the listener's certificate had changed.
    Reload {
        /// New connections are shown the new one.
        Done = "done",
        /// It can't be used.
        Failed = "failed",
    }
}
labels! {
    /// The class of an HTTP status.
    Class {
        /// 1xx, that is 101.
        Informational = "1xx",
        /// 2xx.
        Success = "2xx",
        /// 3xx.
        Redirection = "3xx",
        /// 4xx.
        ClientError = "4xx",
        /// 5xx.
        ServerError = "5xx",
        /// The client left before there was an answer.
        Canceled = "canceled",
    }
}
labels! {
    /// The status with which the gateway refused an upgrade.
    Refused {
        /// Unauthorized.
        Unauthorized = "401",
        /// Forbidden: `proxy_attribution_required`, for one.
        Forbidden = "403",
        /// Not found.
        NotFound = "404",
        /// Too many requests.
        TooMany = "429",
        /// Unavailable: the gateway starts, for one.
        Unavailable = "503",
        /// Any other.
        Other = "other",
    }
}

impl Refused {
    /// The label of a status.
    #[must_use]
    pub fn with(status: u16) -> Self {
        match status {
            401 => Self::Unauthorized,
            403 => Self::Forbidden,
            404 => Self::NotFound,
            429 => Self::TooMany,
            503 => Self::Unavailable,
            _ => Self::Other,
        }
    }
}
