package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"sallyport.dev/sallyport/cmd/internal/config"
	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/intercept/identity"
	"sallyport.dev/sallyport/intercept/identity/oidc"
	"sallyport.dev/sallyport/policy/approval"
)

const (
	approvalTime    = 10 * time.Second // for a step to be on the record
	sweepEvery      = 5 * time.Second
	maxApprovalAsks = 256 << 10 // bytes of a question
)

// openApprovals has the gate ask people. What was kept and can't be read is not
// approved any more.
func (d *daemon) openApprovals(state string) error {
	o := approval.Options{
		Now: time.Now, Tell: d.tellApproval,
		Claims: func() []string { return d.setting.Load().cfg.Approvals.Claims() },
	}
	log, records, err := openApprovals(state)
	var book *approval.Book
	if err == nil {
		book, err = approval.Open(records, log, o)
	}
	if err != nil && !errors.Is(err, approval.ErrDamaged) {
		// The disk's fault: nothing of what was approved is lost.
		return fmt.Errorf("%s can't be opened: make room, or mend the disk, and start again: %w", log.path, err)
	}
	if err != nil {
		d.alarms.raise("approvals", "what was approved before can't be read, and does not hold any more: "+err.Error())
		if err := log.setAside(); err != nil {
			return fmt.Errorf("set %s aside: %w", log.path, err)
		}
		if book, err = approval.Open(nil, log, o); err != nil {
			return err
		}
	}
	d.approvals, d.approvalsLog = book, log
	d.gate.SetApprovals(book)
	return nil
}

// tellApproval records steps, durably.
func (d *daemon) tellApproval(steps ...*events.Event) error {
	ctx, cancel := context.WithTimeout(context.Background(), approvalTime)
	defer cancel()
	tickets := make([]events.Ticket, len(steps))
	for i, e := range steps {
		var err error
		if tickets[i], err = d.events.Append(e); err != nil {
			return err
		}
	}
	for _, t := range tickets {
		if err := t.Wait(ctx); err != nil {
			return err
		}
	}
	return nil
}

// sweepApprovals ends what nobody decided in time.
func (d *daemon) sweepApprovals(ctx context.Context) {
	for pause(ctx, sweepEvery) {
		if err := d.approvals.Sweep(); err != nil {
			d.alarms.raise("approvals", "requests that are over can't be ended: "+err.Error())
		}
	}
}

// approvers verifies ID tokens of approvers.
func approvers(a *config.Approvals) (identity.Verifier, error) {
	var is []oidc.Issuer
	for _, i := range a.Issuers {
		is = append(is, oidc.Issuer{URL: i.URL, Audience: i.Client, Algorithms: i.Algorithms, Skew: i.Skew, MaxAge: 10 * time.Minute})
	}
	return oidc.New(is, time.Now)
}

// approvalAsk is a question about approvals, by root's command.
type approvalAsk struct {
	Do    string `json:"do"` // "list", "show", or a decision
	ID    string `json:"id,omitempty"`
	All   bool   `json:"all,omitempty"`
	Why   string `json:"why,omitempty"`
	Token string `json:"token,omitempty"` // of the approver: the proof
}

// approvalAnswer is the answer to it.
type approvalAnswer struct {
	Entries []approval.Entry `json:"entries"`
	// Issuers that approvers log in at.
	Issuers []config.ApprovalIssuer `json:"issuers,omitempty"`
}

// answerApprovals answers a question that stands in one descriptor into the other.
func (d *daemon) answerApprovals(o *order, fds []int) {
	go func() {
		ask, to := os.NewFile(uintptr(fds[0]), "question"), os.NewFile(uintptr(fds[1]), "answer")
		defer ask.Close()
		defer to.Close()
		v := verdict{To: doApprovals, ID: o.ID}
		if err := d.approvalsAsked(ask, to); err != nil {
			v.Err = err.Error()
			d.log.Warn("a question about approvals is refused", "error", err)
		}
		_ = d.line.answer(v) // a loader that is gone ends us
	}()
}

func (d *daemon) approvalsAsked(from, to *os.File) error {
	b, err := io.ReadAll(io.NewSectionReader(from, 0, maxApprovalAsks+1))
	var q approvalAsk
	if err != nil || len(b) > maxApprovalAsks || json.Unmarshal(b, &q) != nil {
		return errors.New("what is asked is not understood: the running sallyport is of another version")
	}
	ctx, cancel := context.WithTimeout(context.Background(), bindTime)
	defer cancel()
	set := d.setting.Load()
	a := approvalAnswer{Issuers: set.cfg.Approvals.Issuers}
	var e approval.Entry
	switch q.Do {
	case "list":
		a.Entries = d.approvals.List(q.All)
	case "show":
		e, err = d.approvals.Show(q.ID)
		a.Entries = []approval.Entry{e}
	case approval.Approve, approval.Deny, approval.Revoke:
		var p *approval.Proof
		if p, err = proofOf(ctx, set, q.Token); err == nil {
			e, err = d.approvals.Decide(q.ID, q.Do, q.Why, p)
			a.Entries = []approval.Entry{e}
		}
	default:
		err = fmt.Errorf("%q is not known here: the running sallyport is of another version", q.Do)
	}
	if err != nil {
		return err
	}
	for i := range a.Entries { // a proof is for the daemon
		for j := range a.Entries[i].Decisions {
			a.Entries[i].Decisions[j].Token = ""
		}
	}
	return json.NewEncoder(to).Encode(&a)
}

// proofOf verifies an approver's token.
func proofOf(ctx context.Context, s *setting, raw string) (*approval.Proof, error) {
	t, err := s.approvers.Verify(ctx, raw, "")
	if err != nil {
		return nil, fmt.Errorf("the approver is not proved: %w", err)
	}
	return &approval.Proof{
		Issuer: t.Issuer, Subject: t.Subject, Claims: t.Claims, Issued: t.Issued, Token: raw,
		Acting: len(t.Actors) > 0 || t.Cert != nil, Person: s.cfg.Approvals.Person(t.Issuer),
	}, nil
}
