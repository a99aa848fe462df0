package policy

import "context"

// Estimate is what a server's planner expects of a statement: a guess by its
// statistics, which no approval is bound to. It holds no values.
type Estimate struct {
	Returned int64 `json:"returned"` // rows to the client
	Changed  int64 `json:"changed"`  // rows inserted, updated, deleted
	// Unknown is why there is no estimate; "" where there is one.
	Unknown string `json:"unknown,omitempty"`
}

// Noter is Approvals that keep what becomes known of a request once it is there.
type Noter interface {
	Note(ctx context.Context, id string, e Estimate) error
}

// estimate has those who are asked for the first time be told how much the
// statement is about, before its client goes on.
func (g *Gate) estimate(ctx context.Context, r *Request, open *Standing) error {
	n, ok := g.approvals.(Noter)
	if !ok || open == nil || len(open.Fresh) == 0 || r.Estimate == nil {
		return nil
	}
	e := r.Estimate(ctx)
	for _, id := range open.Fresh {
		if err := n.Note(ctx, id, e); err != nil && ctx.Err() == nil { // else nobody waits for it any more
			return err
		}
	}
	return nil
}
