package intercept

import "context"

// Proof is what the loader proved of a peer: that its process is still the
// one that connected, which workload it is, and the token that this workload
// presents. Tokens are not verified yet, and are never logged.
type Proof struct {
	Workload string // name in sallyport.yaml
	Exe      string // path of the executable; "" if it was replaced since the connect
	Cgroup   string // path below the cgroup2 root, leading slash
	Token    []byte
	Person   []byte // token of whom root had it act for (sallyport exec), nil for nobody
}

// Prover proves peers. It is safe for concurrent use. An error refuses the
// peer; its text says why and what to do, and holds no secret.
type Prover interface {
	Prove(ctx context.Context, peer *Peer) (Proof, error)
}
