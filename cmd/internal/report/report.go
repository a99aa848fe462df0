// Package report makes an auditor's bundle of what a recorder's store holds of
// a time: who accessed what on whose behalf, what was masked, refused and
// approved, under which policy, and what proves that nothing of it was edited.
//
// It tells what the events tell: no literal, bind, row or exact statement.
package report

import (
	"cmp"
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/events/ocsf"
	"sallyport.dev/sallyport/events/recorder"
)

// Filter says what a report is of. Zero parts select all.
type Filter struct {
	From time.Time `json:"from"`
	To   time.Time `json:"to"` // not included

	Identity  string `json:"identity,omitempty"`  // workload, agent, or one of the chain that acts
	Principal string `json:"principal,omitempty"` // that they act for
	Relation  string `json:"relation,omitempty"`  // schema.relation, or relation in any schema
	Resource  string `json:"resource,omitempty"`
	// Subjects are those of whom rows went out, each as an events.Subject is written;
	// and what could not tell whose rows they were.
	Subjects []string `json:"subjects,omitempty"`
}

// Given is what a report has beside what the chains say. A bundle's own chains
// can't prove it: only the archive's SHA-256 covers it.
type Given struct {
	Made    time.Time        `json:"made"`
	Program string           `json:"program"`
	Filter  Filter           `json:"filter"`
	Faults  []recorder.Fault `json:"faults"`
	Alarms  []recorder.Alarm `json:"alarms"` // raised by the recorder in that time
	Reads   []Note           `json:"reads"`  // who read the evidence before
	// Log is the transparency log that the records are proved to be in; nil for none.
	// Its own signature proves it.
	Log *LogState `json:"log,omitempty"`
}

// Report is what a bundle says; report.json is its form for machines. All but
// what is given is made from the chains, so that Check can make it again.
type Report struct {
	Given
	Sound  bool    `json:"sound"` // every record of the store is there, unchanged: there are no faults
	Chains []Chain `json:"chains"`

	Accesses   []Access   `json:"accesses"` // that ran
	Refused    []Access   `json:"refused"`
	Approvals  []Approval `json:"approvals"`
	Identities []Sum      `json:"identities"`
	Principals []Sum      `json:"principals"`
	Policies   []Note     `json:"policies"` // in force, and when they came
	Hosts      []Note     `json:"hosts"`    // what else was on the record of them
	Controls   []Control  `json:"controls"`

	Logins, LoginsRefused int            `json:"-"`
	Proofs                map[string]int `json:"proofs"`    // how sessions were proved
	Transport             map[string]int `json:"transport"` // of sessions: how their doors were secured
}

// Access is a statement, with what became of it.
type Access struct {
	Record    string    `json:"record"` // its id: <chain>-<number>
	Time      time.Time `json:"time"`
	Host      string    `json:"host"`
	Session   string    `json:"session"`
	Statement uint64    `json:"statement"`

	Workload  string   `json:"workload,omitempty"`
	Agent     string   `json:"agent,omitempty"`
	Actors    []string `json:"actors,omitempty"`
	Principal string   `json:"principal,omitempty"`
	Proof     string   `json:"proof,omitempty"`

	Resource  string   `json:"resource,omitempty"`
	Database  string   `json:"database,omitempty"`
	Relations []string `json:"relations,omitempty"`
	Query     string   `json:"query,omitempty"` // without its literals
	Writes    bool     `json:"writes,omitempty"`

	Verdict       string   `json:"verdict"`
	Rules         []string `json:"rules,omitempty"`
	Reason        string   `json:"reason,omitempty"`
	Masked        []string `json:"masked,omitempty"`
	Revealed      []string `json:"revealed,omitempty"`
	Justification string   `json:"justification,omitempty"`
	Approvals     []string `json:"approvals,omitempty"`

	Subject string `json:"subject,omitempty"` // of the filter's: "shown", or "not told: " and why

	Outcome string `json:"outcome,omitempty"` // "" where none is on the record
	Rows    int64  `json:"rows"`              // that went out, or were changed
	Bytes   int64  `json:"bytes"`
}

// Approval is a step of a request for approval.
type Approval struct {
	Record string    `json:"record"`
	Time   time.Time `json:"time"`
	Host   string    `json:"host"`
	ocsf.Approval
}

// Sum is what one identity, or one principal, did.
type Sum struct {
	Name       string   `json:"name"`
	Sessions   int      `json:"sessions"`
	Statements int      `json:"statements"`
	Masked     int      `json:"masked"`
	Refused    int      `json:"refused"`
	Rows       int64    `json:"rows"`
	Relations  []string `json:"relations,omitempty"`
	sessions   map[string]bool
	relations  map[string]bool
}

// Note is something that a host, or the recorder's store, has on its record.
type Note struct {
	Record string    `json:"record,omitempty"`
	Time   time.Time `json:"time"`
	Host   string    `json:"host,omitempty"`
	What   string    `json:"what"`
	Text   string    `json:"text"`
}

// Store is what a report is made from.
type Store interface {
	Verify(ctx context.Context) (recorder.Report, error)
	Records(ctx context.Context, f func(*recorder.Held) error) error
	// Log is its transparency log, which has all that is stored; nil where none is to
	// go into a report.
	Log(ctx context.Context) (*Log, error)
}

// Make reads the store, of which g says the time and what to select. What it holds
// of records beside the events goes to p, record by record, with whether the report
// speaks of it.
func Make(ctx context.Context, s Store, g Given, p *proofs) (*Report, error) {
	rep, err := s.Verify(ctx)
	if err != nil {
		return nil, err
	}
	g.Faults = rep.Faults
	for _, a := range rep.Alarms {
		if !a.Time.Before(g.Filter.From) && a.Time.Before(g.Filter.To) {
			g.Alarms = append(g.Alarms, a)
		}
	}
	if g, err = g.normal(); err != nil {
		return nil, err
	}
	m := newMaker(g)
	// A recorder may be at work: the chains end with what is read here.
	if len(g.Filter.Subjects) > 0 {
		if err := s.Records(ctx, func(h *recorder.Held) error { m.see(h.Host, &h.Record); return nil }); err != nil {
			return nil, err
		}
	}
	m.of = m.sights()
	if err := s.Records(ctx, func(h *recorder.Held) error {
		host, r := h.Host, &h.Record
		if later, err := p.later(host, r); later || err != nil {
			return err
		}
		m.link(host, r)
		n, err := p.add(ctx, h, m.record(host, r))
		m.Chains[len(m.Chains)-1].Logged += uint64(n)
		return err
	}); err != nil {
		return nil, err
	}
	m.finish()
	return m.Report, nil
}

// normal is what is read back of g once it is written as JSON, where what is no
// UTF-8 is another text: all forms of a report are made of the same.
func (g Given) normal() (out Given, err error) {
	g.Made, g.Faults, g.Alarms, g.Reads = g.Made.UTC(), append([]recorder.Fault{}, g.Faults...), append([]recorder.Alarm{}, g.Alarms...), append([]Note{}, g.Reads...)
	b, err := json.Marshal(&g)
	if err == nil {
		err = json.Unmarshal(b, &out)
	}
	if err != nil {
		return out, fmt.Errorf("report: %w", err)
	}
	return out, nil
}

type key struct {
	host, session string
	number        uint64
}

// at is where an access stands in Accesses.
type at int

type maker struct {
	*Report
	open    map[key]at
	inForce map[string]Note    // the policy of each host before the time
	named   *Chain             // the last one with a fault of ours
	covered map[[2]string]bool // chains whose host has signed what was in that time
	seen    *sights            // while they are looked for
	of      *sights            // that the report is of; nil: of all statements
}

func newMaker(g Given) *maker {
	return &maker{
		Report: &Report{
			Given: g, Proofs: map[string]int{}, Transport: map[string]int{}, Chains: []Chain{},
			Accesses: []Access{}, Refused: []Access{}, Approvals: []Approval{}, Policies: []Note{}, Hosts: []Note{},
		},
		open: map[key]at{}, inForce: map[string]Note{}, covered: map[[2]string]bool{},
	}
}

// link notes that r is the next record of its chain.
func (m *maker) link(host string, r *events.Record) {
	if n := len(m.Chains); n == 0 || m.Chains[n-1].Chain != r.Chain || m.Chains[n-1].Host != host {
		m.Chains = append(m.Chains, Chain{Host: host, Chain: r.Chain, File: chainFile(n + 1)})
	}
	c := &m.Chains[len(m.Chains)-1]
	c.Records, c.Last, c.Hash = c.Records+1, r.Seq, hex.EncodeToString(r.Hash[:])
}

// misstated names the first record of a chain whose event no host of ours wrote.
func (m *maker) misstated(host string, r *events.Record, detail string) {
	if m.named == nil || m.named.Host != host || m.named.Chain != r.Chain {
		m.named = &Chain{Host: host, Chain: r.Chain}
		m.Faults = append(m.Faults, recorder.Fault{Host: host, Chain: r.Chain, Seq: r.Seq, What: "misstated", Detail: detail})
	}
}

// record takes one in, and tells whether the report speaks of it.
func (m *maker) record(host string, r *events.Record) bool {
	if r.Kind == 0 {
		return false
	}
	v, err := ocsf.Decode(r.Payload)
	if err != nil { // the recorder has raised an alarm for it
		return false
	}
	if !utf8.Valid(r.Payload) {
		m.misstated(host, r, "its event is not in UTF-8: no host of ours writes that")
		return false
	}
	if v.Host != host && v.Host != "" && v.Host != "unknown" { // what ocsf writes of one without a name
		m.misstated(host, r, "its event names another host: "+v.Host)
	}
	uid := recordID(r)
	policy := r.Kind == events.Lifecycle && (v.Status == "start" || v.Status == "reload")
	if policy && v.Time.Before(m.Filter.From) {
		m.inForce[host] = Note{uid, v.Time, host, v.Status, v.Message}
		return true
	}
	switch r.Kind {
	case events.Response:
		return m.outcome(host, &v)
	case events.Subjects:
		_, ok := m.open[key{host, v.Session, v.Number}]
		return ok
	}
	if k := [2]string{host, r.Chain}; r.Kind == events.Checkpoint && !v.Time.Before(m.Filter.To) && !m.covered[k] {
		m.covered[k] = true // the first behind them all, which signs them
		return true
	}
	if v.Time.Before(m.Filter.From) || !v.Time.Before(m.Filter.To) {
		return false
	}
	switch r.Kind {
	case events.Statement, events.Block:
		if !m.Filter.selects(&v) || !m.of.has(host, &v) {
			return false
		}
		m.access(host, uid, r.Kind, &v)
		return true
	case events.Login, events.SessionOpen:
		return m.of.session(host, v.Session) && m.session(r.Kind, &v)
	case events.ApprovalRequest, events.ApprovalDecision:
		if v.Approval == nil || !m.Filter.approval(v.Approval) || !m.of.approval(v.Approval.ID) {
			return false
		}
		m.Approvals = append(m.Approvals, Approval{uid, v.Time, host, *v.Approval})
		return true
	case events.Checkpoint:
		return true // what ties the chain to the host's key
	}
	if policy {
		m.Policies = append(m.Policies, Note{uid, v.Time, host, v.Status, v.Message})
		return true
	}
	if r.Kind != events.SessionClose && v.Status != "heartbeat" && v.Session == "" {
		m.Hosts = append(m.Hosts, Note{uid, v.Time, host, strings.TrimSuffix(v.Kind+" "+v.Status, " "), v.Message})
		return true
	}
	return false
}

func (m *maker) session(k events.Kind, v *ocsf.View) bool {
	if !m.Filter.who(v) {
		return false
	}
	if k == events.SessionOpen {
		m.Proofs[cmp.Or(v.Proof, "none")]++
		m.Transport["agent "+door(v.ClientTLS)+", server "+door(v.ServerTLS)]++
		return true
	}
	if m.Logins++; v.Verdict == "deny" || v.Verdict == "block" {
		m.LoginsRefused++
	}
	return true
}

func door(t events.TLS) string {
	if t.Version == "" {
		return "in clear"
	}
	return "TLS " + t.Version
}

func (m *maker) access(host, uid string, k events.Kind, v *ocsf.View) {
	a := Access{
		Record: uid, Time: v.Time, Host: host, Session: v.Session, Statement: v.Number,
		Workload: v.Workload, Agent: v.Actor, Actors: v.Actors, Principal: v.Principal, Proof: v.Proof,
		Resource: v.Resource, Database: v.Database, Relations: v.Objects, Query: v.Normalized, Writes: v.Writes,
		Verdict: v.Verdict, Rules: v.Rules, Reason: v.Reason, Masked: v.Masked, Revealed: v.Revealed, Justification: v.Justification,
		Approvals: v.Approvals, Subject: m.of.words(host, v), Outcome: v.Status, Rows: max(v.Rows, 0), Bytes: max(v.Bytes, 0),
	}
	if k == events.Block {
		m.Refused = append(m.Refused, a)
		return
	}
	m.Accesses = append(m.Accesses, a)
	m.open[key{host, v.Session, v.Number}] = at(len(m.Accesses) - 1)
}

// outcome adds what a response tells to its statement.
func (m *maker) outcome(host string, v *ocsf.View) bool {
	p, ok := m.open[key{host, v.Session, v.Number}]
	if !ok {
		return false
	}
	a := &m.Accesses[p]
	a.Outcome, a.Rows, a.Bytes = v.Status, a.Rows+max(v.Rows, 0), a.Bytes+max(v.Bytes, 0)
	return true
}

func (f *Filter) who(v *ocsf.View) bool {
	return (f.Identity == "" || v.Workload == f.Identity || v.Actor == f.Identity || slices.Contains(v.Actors, f.Identity)) &&
		(f.Principal == "" || v.Principal == f.Principal) && (f.Resource == "" || v.Resource == f.Resource)
}

// selects: a statement whose relations are not all known (the event's list is
// cut, or empty because it could not be read) may be one of the relation's.
func (f *Filter) selects(v *ocsf.View) bool {
	if !f.who(v) {
		return false
	}
	if f.Relation == "" || v.Truncated || len(v.Objects) == 0 {
		return true
	}
	return slices.ContainsFunc(v.Objects, func(o string) bool {
		return o == f.Relation || !strings.Contains(f.Relation, ".") && strings.HasSuffix(o, "."+f.Relation)
	})
}

func (f *Filter) approval(a *ocsf.Approval) bool {
	return (f.Identity == "" || a.Workload == f.Identity || a.Actor == f.Identity) &&
		(f.Principal == "" || a.Principal == f.Principal) && (f.Resource == "" || a.Resource == f.Resource)
}

func (m *maker) finish() {
	m.Sound = len(m.Faults) == 0
	byTime := func(a, b Access) int {
		return cmp.Or(a.Time.Compare(b.Time), cmp.Compare(a.Record, b.Record), cmp.Compare(a.Host, b.Host))
	}
	slices.SortFunc(m.Accesses, byTime)
	slices.SortFunc(m.Refused, byTime)
	slices.SortFunc(m.Approvals, func(a, b Approval) int {
		return cmp.Or(a.Time.Compare(b.Time), cmp.Compare(a.Record, b.Record), cmp.Compare(a.Host, b.Host))
	})
	for _, n := range m.inForce {
		m.Policies = append(m.Policies, n)
	}
	for _, l := range [][]Note{m.Policies, m.Hosts} {
		slices.SortFunc(l, func(a, b Note) int {
			return cmp.Or(a.Time.Compare(b.Time), cmp.Compare(a.Record, b.Record), cmp.Compare(a.Host, b.Host))
		})
	}
	m.Identities = m.sums(func(a *Access) string { return cmp.Or(a.Workload, a.Agent) })
	m.Principals = m.sums(func(a *Access) string { return a.Principal })
	m.Controls = controls(m.Report)
}

func (m *maker) sums(of func(*Access) string) []Sum {
	sums := map[string]*Sum{}
	add := func(a *Access, refused bool) {
		name := cmp.Or(of(a), "(nobody named)")
		s := sums[name]
		if s == nil {
			s = &Sum{Name: name, sessions: map[string]bool{}, relations: map[string]bool{}}
			sums[name] = s
		}
		s.sessions[a.Host+" "+a.Session] = true
		if refused {
			s.Refused++
			return
		}
		s.Statements++
		s.Rows += a.Rows
		if a.Verdict == "mask" {
			s.Masked++
		}
		for _, r := range a.Relations {
			s.relations[r] = true
		}
	}
	for i := range m.Accesses {
		add(&m.Accesses[i], false)
	}
	for i := range m.Refused {
		add(&m.Refused[i], true)
	}
	out := []Sum{}
	for _, s := range sums {
		s.Sessions = len(s.sessions)
		for r := range s.relations {
			s.Relations = append(s.Relations, r)
		}
		slices.Sort(s.Relations)
		out = append(out, *s)
	}
	slices.SortFunc(out, func(a, b Sum) int { return cmp.Compare(a.Name, b.Name) })
	return out
}
