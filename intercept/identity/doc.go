// Package identity binds what the kernel knows of a connection to a workload
// and a verified identity. Its Binder joins a prover (intercept/privsep) and a
// verifier of tokens (identity/oidc).
package identity
