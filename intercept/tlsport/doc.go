// Package tlsport secures the passage's two doors. Towards the server it
// verifies a certificate in full. Towards the agent it presents leaves of this
// host's own authority, whose key one process alone can read (the signer), for
// the names of configured resources and for no others.
package tlsport
