// Package oidc verifies tokens of OpenID Connect issuers: signature by an
// allowed algorithm and a key that the issuer publishes, issuer, audience,
// times, and the actor chain.
//
// Issuers are discovered when their first token comes and again after
// failures, so that one that is down at start does no harm but refusals.
package oidc
