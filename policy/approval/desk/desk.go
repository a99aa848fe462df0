// Package desk answers questions about approvals: those of root's command, and those
// that come over NATS, by core request and reply on one subject per host. Who brings a
// decision is nobody: its proof is verified by the host, in the same way on each way.
//
// What is asked and answered holds the exact statements. It stands in no stream: who
// may publish to a host's subject may read what waits there, and decides nothing.
package desk

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"sallyport.dev/sallyport/policy"
	"sallyport.dev/sallyport/policy/approval"
)

// MaxAsk is the size of a question, in bytes.
const MaxAsk = 256 << 10

// What may be asked, besides approval.Approve, approval.Deny and approval.Revoke.
const (
	List = "list" // of one request where there is an ID, without what is to run
	Show = "show" // one request as a whole; that it was seen is on the record
)

// Ask is a question about approvals, or a decision.
type Ask struct {
	Do  string `json:"do"`
	ID  string `json:"id,omitempty"`
	All bool   `json:"all,omitempty"` // of List: those too that have ended lately
	Why string `json:"why,omitempty"`
	// Token is the approver's: the proof of a decision. With List and Show it may be of
	// any log-in: then that person is shown what they may decide, and named on the record.
	Token string `json:"token,omitempty"`
	// Recorded is the weaker proof of a decision, instead of Token.
	Recorded *Recorded `json:"recorded,omitempty"`

	// Viewer is, with Show, whom a page has logged in: the record names them, by its word.
	// A Token counts before it.
	Viewer *approval.Viewer `json:"viewer,omitempty"`

	Name  string            `json:"name,omitempty"`  // of GlassBegin
	Glass *approval.Opening `json:"glass,omitempty"` // of GlassOpen
}

// Answer is the answer to it.
type Answer struct {
	Host    string           `json:"host,omitempty"` // over NATS
	Entries []approval.Entry `json:"entries"`
	Issuers []Issuer         `json:"issuers,omitempty"` // that approvers log in at
	Error   string           `json:"error,omitempty"`   // over NATS: why there is none

	// Of questions about emergency access.
	Glasses  []approval.Glass    `json:"glasses,omitempty"`
	Provided []policy.BreakGlass `json:"provided,omitempty"` // by the policy
	Opening  *approval.Opening   `json:"opening,omitempty"`  // to be filled in, proved and opened
}

// Issuer is one that approvers log in at.
type Issuer struct {
	URL        string        `json:"url"`
	Client     string        `json:"client"`           // the audience of a proof
	Device     string        `json:"device,omitempty"` // that of log-ins by device code, which decide nothing
	Algorithms []string      `json:"algorithms,omitempty"`
	Skew       time.Duration `json:"skew,omitempty"`
	Scopes     []string      `json:"scopes,omitempty"`
}

// Desk answers. Its functions are called for each question, by many at once.
type Desk struct {
	Book    *approval.Book
	Issuers func() []Issuer
	// Glass is the emergency access that the policy provides; nil is none.
	Glass func() []policy.BreakGlass
	// Prove verifies what proves a decision. What it returns is held against the
	// request by the Book.
	Prove func(context.Context, *Ask) (*approval.Proof, error)
}

// ErrAsk: a question is not understood.
var ErrAsk = errors.New("what is asked is not understood: the running sallyport is of another version")

// ParseAsk reads a question.
func ParseAsk(b []byte) (*Ask, error) {
	q := &Ask{}
	if len(b) > MaxAsk || json.Unmarshal(b, q) != nil {
		return nil, ErrAsk
	}
	return q, nil
}

// Answer answers a question. What it returns holds no proof: that is for the host.
func (d *Desk) Answer(ctx context.Context, q *Ask) (*Answer, error) {
	a := &Answer{Issuers: d.Issuers()}
	var by *approval.Proof
	decides := q.Do == approval.Approve || q.Do == approval.Deny || q.Do == approval.Revoke
	if decides || (q.Token != "" || q.Recorded != nil) && (q.Do == List || q.Do == Show) {
		var err error
		if by, err = d.Prove(ctx, q); err != nil {
			return nil, err
		}
	}
	switch q.Do {
	case List:
		if q.ID == "" {
			var err error
			if a.Entries, err = d.Book.List(ctx, q.All); err != nil {
				return nil, err
			}
		} else {
			e, err := d.Book.Glance(ctx, q.ID)
			if err != nil {
				return nil, err
			}
			a.Entries = []approval.Entry{e}
		}
		if by != nil {
			a.Entries = slices.DeleteFunc(a.Entries, func(e approval.Entry) bool { return !approval.May(e.By, by) })
		}
		if q.ID != "" && len(a.Entries) == 0 {
			return nil, approval.ErrUnknown
		}
	case Show:
		e, err := d.show(ctx, q, by)
		if err != nil {
			return nil, err
		}
		a.Entries = []approval.Entry{e}
	case approval.Approve, approval.Deny, approval.Revoke:
		e, err := d.Book.Decide(ctx, q.ID, q.Do, q.Why, by)
		if err != nil {
			return nil, err
		}
		a.Entries = []approval.Entry{e}
	case GlassList, GlassBegin, GlassOpen, GlassClose, GlassJustified, GlassUnjustified:
		return a, d.glass(ctx, q, a)
	default:
		return nil, fmt.Errorf("%.32q is not known here: the running sallyport is of another version", q.Do)
	}
	for i := range a.Entries {
		for j := range a.Entries[i].Decisions {
			a.Entries[i].Decisions[j].Token = ""
		}
	}
	return a, nil
}

func (d *Desk) show(ctx context.Context, q *Ask, by *approval.Proof) (approval.Entry, error) {
	if by == nil && q.Viewer != nil {
		return d.Book.ShowClaimed(ctx, q.ID, *q.Viewer)
	}
	return d.Book.ShowTo(ctx, q.ID, by)
}
