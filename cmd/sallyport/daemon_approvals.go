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
	"sallyport.dev/sallyport/policy"
	"sallyport.dev/sallyport/policy/approval"
	"sallyport.dev/sallyport/policy/approval/desk"
)

const (
	approvalTime = 10 * time.Second // for a step to be on the record
	sweepEvery   = 5 * time.Second
)

// openApprovals has the gate ask people. What was kept and can't be read is not
// approved any more.
func (d *daemon) openApprovals(state, host string) error {
	o := approval.Options{
		Host: host, Now: time.Now, Tell: d.tellApproval,
		Claims: func() []string { return d.setting.Load().cfg.Approvals.Claims() },
		Glass:  d.glass,
	}
	log, records, torn, err := openApprovals(state)
	o.Torn = torn
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
		o.Torn = false
		if book, err = approval.Open(nil, log, o); err != nil {
			return err
		}
	}
	if torn && book.Lost() > 0 {
		d.alarms.raise("approvals", fmt.Sprintf("the log of what was approved was cut short, or its end is damaged: %d approvals that may have been used do not hold any more, and must be asked for again", book.Lost()))
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

// approverIssuers are where approvers log in.
func approverIssuers(a *config.Approvals) (all []desk.Issuer) {
	for _, i := range a.Issuers {
		all = append(all, desk.Issuer{URL: i.URL, Client: i.Client, Device: i.DeviceClient, Algorithms: i.Algorithms, Skew: i.Skew, Scopes: i.Scopes})
	}
	return all
}

// approvers verifies ID tokens of approvers.
func approvers(a *config.Approvals) (*desk.LogIns, error) {
	return desk.NewLogIns(approverIssuers(a), a.Person, time.Now)
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
	b, err := io.ReadAll(io.NewSectionReader(from, 0, desk.MaxAsk+1))
	if err != nil {
		return err
	}
	q, err := desk.ParseAsk(b)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), bindTime)
	defer cancel()
	a, err := d.desk().Answer(ctx, q)
	if err != nil {
		return err
	}
	return json.NewEncoder(to).Encode(a)
}

// glass is the emergency access that the policy provides.
func (d *daemon) glass() []policy.BreakGlass { return d.setting.Load().glass }

// desk answers questions about approvals, whichever way they come.
func (d *daemon) desk() *desk.Desk {
	return &desk.Desk{
		Book:    d.approvals,
		Glass:   d.glass,
		Issuers: func() []desk.Issuer { return approverIssuers(&d.setting.Load().cfg.Approvals) },
		Prove: func(ctx context.Context, q *desk.Ask) (*approval.Proof, error) {
			set := d.setting.Load()
			if q.Recorded != nil {
				return set.recorders.Prove(ctx, q)
			}
			return set.approvers.Prove(ctx, q)
		},
	}
}

// answerOverNATS answers what is asked there about approvals, where the configuration
// lets it be asked.
func (d *daemon) answerOverNATS(ctx context.Context) {
	cfg := d.setting.Load().cfg
	if !cfg.Evidence.NATS.Approvals {
		return
	}
	for {
		err := d.desk().Serve(ctx, d.evidence.conn, cfg.Host, d.log)
		if err == nil || d.evidence.conn.IsClosed() {
			return
		}
		d.alarms.raise("approvals", "nobody can decide over NATS (evidence.nats.approvals): "+err.Error())
		if !pause(ctx, time.Minute) {
			return
		}
	}
}
