//! Headers that name a user, or a user's rights, to a gateway with `gateway.auth.mode: trusted-proxy`.
//!
//! An authenticating proxy sets them. The gateway believes every source in its `trustedProxies`, and seqgate is one, so
//! seqgate passes them on only from a proxy that it trusts itself.

use std::borrow::Cow;

/// The well-known identity headers in lower case; a `*` at the end matches a whole family.
///
/// `X-OpenClaw-*` is not one family: API clients legitimately send most of it (session, agent, model, password).
const WELL_KNOWN: &[&str] = &[
    // OpenClaw itself: caps or declares the operator scopes of a user whom a proxy authenticated.
    "x-openclaw-scopes",
    // oauth2-proxy (--set-xauthrequest).
    "x-auth-request-*",
    // oauth2-proxy (--pass-user-headers), OpenShift oauth-proxy, traefik-forward-auth, Caddy recipes. No family:
    // most of X-Forwarded-* describes the connection.
    "x-forwarded-user*",
    "x-forwarded-email",
    "x-forwarded-groups",
    "x-forwarded-preferred-username",
    "x-forwarded-access-token",
    "x-forwarded-id-token",
    "x-forwarded-name",
    "x-forwarded-given-name",
    "x-forwarded-family-name",
    "x-forwarded-roles",
    "x-forwarded-sub",
    "x-forwarded-subject",
    "x-forwarded-login",
    // Envoy, and Traefik's PassTLSClientCert.
    "x-forwarded-client-cert*",
    "x-forwarded-tls-client-cert*",
    // Authelia, Pangolin, Tinyauth, CGI's REMOTE_USER.
    "remote-user*",
    "remote-group",
    "remote-groups",
    "remote-email",
    "remote-name",
    "remote-role",
    "remote-roles",
    // authentik.
    "x-authentik-*",
    // Pomerium.
    "x-pomerium-*",
    // Cloudflare Access, and its client certificates.
    "cf-access-*",
    "cf-client-cert-*",
    // Google Identity-Aware Proxy. No family: Google's webhooks use X-Goog-* too.
    "x-goog-authenticated-user-*",
    "x-goog-iap-*",
    // AWS Application Load Balancer: OIDC, client certificates.
    "x-amzn-oidc-*",
    "x-amzn-mtls-*",
    // Azure App Service and Container Apps (Easy Auth), client certificates.
    "x-ms-client-principal*",
    "x-ms-token-*",
    "x-arr-clientcert",
    // Tailscale Serve, and Tailscale's recipes.
    "tailscale-*",
    "x-tailscale-*",
    // Vouch Proxy.
    "x-vouch-*",
    // Grafana's and Gitea's auth proxy, caddy-tailscale.
    "x-webauth-*",
    // caddy-security.
    "x-token-user-*",
    "x-token-subject",
    // Keycloak Gatekeeper, Louketo. No family: X-Auth-Token and X-Auth-Key are clients' own credentials.
    "x-auth-user*",
    "x-auth-subject",
    "x-auth-email",
    "x-auth-name",
    "x-auth-given-name",
    "x-auth-family-name",
    "x-auth-groups",
    "x-auth-roles",
    "x-auth-audience",
    // LemonLDAP::NG.
    "auth-user",
    "auth-groups",
    "auth-mail",
    "auth-cn",
    // Kubernetes API server's request headers, and Apache and nginx recipes.
    "x-remote-*",
    // Kong.
    "x-consumer-*",
    "x-credential-identifier",
    "x-userinfo",
    "x-id-token",
    // Etherpad, Kong, forward proxies.
    "x-authenticated-*",
    // Apache mod_auth_openidc, mod_auth_mellon, Shibboleth.
    "oidc-*",
    "mellon-*",
    "shib-*",
    "x-shib-*",
    "eppn",
    // SiteMinder, IBM Security Verify Access (WebSEAL).
    "sm-user*",
    "iv-user*",
    "iv-groups",
    "iv-creds",
    // ngrok, Teleport, Sandstorm.
    "ngrok-auth-*",
    "teleport-jwt-assertion",
    "x-sandstorm-*",
    // Client certificates: RFC 9440, ingress-nginx, HAProxy and nginx recipes.
    "client-cert",
    "client-cert-chain",
    "ssl-client-*",
    "x-ssl-client-*",
    "x-ssl-cert",
    "x-client-cert*",
    // nginx auth_request and Traefik ForwardAuth recipes, Ory Oathkeeper, CloudBeaver.
    "x-user",
    "x-username",
    "x-user-id",
    "x-user-name",
    "x-user-email",
    "x-user-groups",
    "x-user-role",
    "x-user-roles",
    "x-email",
    "x-groups",
    "x-role",
    "x-roles",
];

/// Names of headers, or of a family of them that begins alike. `_` equals `-`, and upper case equals lower case.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HeaderPattern {
    /// In lower case, with `-` for `_`.
    text: String,
    is_prefix: bool,
}

impl HeaderPattern {
    /// Parses `X-Name` or `X-Family-*`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (name, is_prefix) = match text.strip_suffix('*') {
            Some(prefix) => (prefix, true),
            None => (text, false),
        };
        // Every character that a header's name may have (RFC 9110, section 5.6.2), but for the asterisk.
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'+-.^_`|~".contains(&byte);
        (!name.is_empty() && name.bytes().all(is_name))
            .then(|| Self { text: name.to_ascii_lowercase().replace('_', "-"), is_prefix })
    }

    /// The first header covered by this pattern that can't be an identity header, because HTTP, the gateway's own
    /// authentication or seqgate depends on it.
    #[must_use]
    pub fn reserved(&self) -> Option<&'static str> {
        super::headers::RESERVED.iter().find(|name| self.matches(name)).copied()
    }

    fn matches(&self, name: &str) -> bool {
        if self.is_prefix { name.starts_with(&self.text) } else { name == self.text }
    }
}

/// The set of identity headers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityHeaders {
    /// Sorted, and none matches what another matches: the only one that can match a name is the last that is not after
    /// it in this order.
    patterns: Vec<HeaderPattern>,
}

impl IdentityHeaders {
    /// The well-known headers and these.
    #[must_use]
    pub fn new(others: impl IntoIterator<Item = HeaderPattern>) -> Self {
        let mut all: Vec<_> = WELL_KNOWN.iter().filter_map(|text| HeaderPattern::parse(text)).collect();
        all.extend(others);
        // Of two equal texts the prefix comes first, which covers the name.
        all.sort_unstable_by(|a, b| a.text.cmp(&b.text).then(b.is_prefix.cmp(&a.is_prefix)));
        let mut patterns: Vec<HeaderPattern> = Vec::with_capacity(all.len());
        for pattern in all {
            if !patterns.last().is_some_and(|last| last.matches(&pattern.text)) {
                patterns.push(pattern);
            }
        }
        Self { patterns }
    }

    /// Whether a name is an identity header. The name comes from [`normalized`].
    pub(super) fn contains(&self, name: &str) -> bool {
        let after = self.patterns.partition_point(|pattern| pattern.text.as_str() <= name);
        after.checked_sub(1).is_some_and(|last| self.patterns[last].matches(name))
    }
}

/// A header's name, which is in lower case, as readers see it that take `_` for `-`.
pub(super) fn normalized(name: &str) -> Cow<'_, str> {
    if name.contains('_') { name.replace('_', "-").into() } else { name.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(others: &[&str]) -> IdentityHeaders {
        IdentityHeaders::new(others.iter().map(|text| HeaderPattern::parse(text).unwrap()))
    }

    #[test]
    fn every_well_known_pattern_is_valid_and_covers_no_reserved_header() {
        for text in WELL_KNOWN {
            let pattern = HeaderPattern::parse(text).unwrap();
            assert_eq!((pattern.reserved(), text.to_ascii_lowercase().as_str()), (None, *text));
        }
    }

    #[test]
    fn a_name_matches_exactly_when_one_pattern_matches_it() {
        let others = ["X-Sso-*", "x_sso_user", "x-sso", "a*", "a-b", "zz-last", "x-user-id-*"];
        let set = with(&others);
        let all: Vec<_> =
            WELL_KNOWN.iter().chain(&others).map(|text| HeaderPattern::parse(text).unwrap()).collect();
        let mut names: Vec<String> = ["", "host", "authorization", "cookie", "zzz", "x-openclaw-session-key"]
            .map(str::to_owned)
            .to_vec();
        for pattern in &all {
            let text = &pattern.text;
            names.extend([text.clone(), format!("{text}x"), format!("{text}-x"), format!("{text}~")]);
            names.push(text[..text.len() - 1].to_owned());
        }
        for name in names {
            let expected = all.iter().any(|pattern| pattern.matches(&name));
            assert_eq!(set.contains(&name), expected, "{name}");
        }
    }

    #[test]
    fn names_and_families_are_accepted_and_nothing_else() {
        for text in ["X-Sso-User", "x_sso_user", "x-sso-*", "sso*", "a.b"] {
            assert!(HeaderPattern::parse(text).is_some(), "{text}");
        }
        for text in ["", "*", "**", "x-*-user", "x sso", "x:", "x-ü", "x\n", "*x", "x-**"] {
            assert_eq!(HeaderPattern::parse(text), None, "{text}");
        }
        for (text, reserved) in [
            ("authorization", Some("authorization")),
            ("X_Forwarded_For", Some("x-forwarded-for")),
            ("x-forwarded-*", Some("x-forwarded-for")),
            ("x-*", Some("x-forwarded-for")),
            ("sec-*", Some("sec-websocket-key")),
            ("Host", Some("host")),
            ("x-forwarded-staff-*", None),
        ] {
            assert_eq!(HeaderPattern::parse(text).unwrap().reserved(), reserved, "{text}");
        }
    }
}
