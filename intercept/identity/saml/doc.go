// Package saml verifies what identity providers of SAML 2.0 say of people: the
// response to a request that this host made, by the redirect binding and the
// POST binding of the web browser profile.
//
// A response is believed once, when it is handed over (Accept), and stands from
// then on for that login until its session ends: the same text is what a
// workload presents (Verify), as a token is. Logins keeps what was asked and
// what was believed.
//
// Only what a signature covers is read: the element that was verified is taken
// from the very bytes whose digest was signed, never from the document around
// it. Everything that two readers could read in two ways is refused: comments,
// DTDs, entities, processing instructions, CDATA, ids and attributes that stand
// twice, more than one assertion, signatures in unexpected places. Keys come
// from the provider's metadata alone. Encrypted assertions are not supported.
//
// The package knows nothing of terminals, browsers or where a response came
// from: whoever has to prove a person by SAML begins a request here and hands
// the answer back.
package saml
