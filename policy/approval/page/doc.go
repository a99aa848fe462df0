// Package page is the web page on which people decide requests for approval of several
// hosts. They log in at their issuer by code flow with PKCE, see the requests that they
// may decide, and sign a decision with another log-in, whose nonce is of that decision:
// the host verifies it. The page holds no key and can make no decision; it is trusted
// to show what is signed.
//
// It needs no script, and keeps what it knows in memory: after a restart people log in
// again.
package page
