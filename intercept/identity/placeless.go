package identity

import (
	"slices"

	"sallyport.dev/sallyport/intercept"
)

// placeless takes from an identity what would say that a process was proved. A
// token from a workload's place is worth what a bearer's is: whoever can connect
// is taken for it.
func placeless(id *intercept.Identity) {
	for _, p := range []*intercept.Proved{&id.Proofs.Workload, &id.Proofs.Actor, &id.Proofs.Principal} {
		if p.By != "" && p.By != intercept.ProofOIDC {
			p.By = intercept.ProofBearer
		}
		p.Bound = slices.DeleteFunc(slices.Clone(p.Bound), func(b string) bool { return b == intercept.BoundPidfd })
	}
	id.Proof = id.Weakest()
}
