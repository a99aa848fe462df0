package identity

import (
	"bytes"
	"context"
	"errors"
	"slices"

	"sallyport.dev/sallyport/intercept"
)

// Speak proves for whom a workload says that its requests are: id is who its
// session was bound to, raw the token of a person that the client presents. A
// token that names its actor (may_act) must name id's. An error's text says why
// and what to do, and holds nothing of the token but names.
func (b *Binder) Speak(ctx context.Context, id *intercept.Identity, raw []byte) (intercept.Spoken, error) {
	if w, ok := (*b.workloads.Load())[id.Workload]; !ok || !w.SpeaksFor {
		return intercept.Spoken{}, errors.New("the workload may not say for whom it acts: set speaks_for in identity.workloads if it serves many people")
	}
	t, err := b.cache.verify(ctx, bytes.TrimSpace(raw), "")
	if err != nil {
		return intercept.Spoken{}, err
	}
	who := *id
	if err := person(&who, t); err != nil {
		return intercept.Spoken{}, err
	}
	s := intercept.Spoken{Person: *who.Person, NotBefore: t.NotBefore, Expires: t.Expires, Fresh: t.Fresh}
	s.Proved.By = intercept.ProofBearer
	if t.MayAct != nil {
		s.Proved.By = intercept.ProofOIDC
	}
	// That the process was proved ties it to its workload, not to the person.
	s.Proved.Bound = slices.DeleteFunc(bindings(t), func(b string) bool { return b == intercept.BoundPidfd })
	return s, nil
}
