package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"sallyport.dev/sallyport/cmd/internal/config"
	"sallyport.dev/sallyport/cmd/internal/render"
	"sallyport.dev/sallyport/policy"
	"sallyport.dev/sallyport/policy/detect"
	"sallyport.dev/sallyport/policy/mask"
	"sallyport.dev/sallyport/policy/rules"
	"sallyport.dev/sallyport/protocols/postgres/query"
)

// explainOptions are the flags of explain.
type explainOptions struct {
	as, resource, why, database, user, application string
	policy, server, at                             string
	json, undecoded                                bool
}

func policyExplainCmd() *cobra.Command {
	var o explainOptions
	cmd := &cobra.Command{
		Use:   `explain --as WHO {--database DB "SQL" | --undecoded} [--resource NAME]`,
		Short: "Say what would become of a statement, and why",
		Long: `Analyses a statement as the daemon would, and prints the verdict, the rules that
decided, why, what to do about it, and the statement that the server would get.
Nothing is run and nothing is recorded.

What the statement's names mean is read from the resource's first address, with
the role of resources[].catalog. Where the guard covers this shell, name the
server's own unix socket with --server: the address would lead into the passage.

With --undecoded it says in place of that whether a session of theirs may go unread,
its TLS being with the server itself: no statement of it is known then, nor a
database or a user.

WHO is ` + asForm + `.
A claim that is named several times is a list.

Exit codes: 0 the verdict was found, whatever it is; 1 it was not; 2 bad usage,
configuration or policy.`,
		Example: `  sallyport policy explain --as billing-agent --resource clinic --database clinic "SELECT ssn FROM clinic.patients"
  sallyport policy explain --as intake,subject=agent-7,claim.role=nurse --database clinic "DELETE FROM clinic.visits"
  sallyport policy explain --as billing-agent --database clinic --server /run/postgresql --json "TABLE clinic.patients" | jq -r .rewritten
  sallyport policy explain --as billing-agent --database clinic --policy new.yaml --at 2026-03-01T23:00:00Z "SELECT 1"
  sallyport policy explain --as replicator --resource clinic --undecoded`,
		Args: func(cmd *cobra.Command, args []string) error {
			if !o.undecoded {
				return exactlyOne("statement, in quotes")(cmd, args)
			}
			if len(args) > 0 || o.database != "" || o.user != "" || o.application != "" {
				return configError(errors.New("--undecoded: nothing is known but who connects, and to what: leave statement, --database, --user and --application out"))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			x, err := o.explain(cmd, strings.Join(args, ""))
			if err != nil {
				return err
			}
			if o.json {
				return printJSON(cmd.OutOrStdout(), x)
			}
			return x.print(cmd.OutOrStdout())
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.as, "as", "", "who asks: a workload, with what its token says")
	f.StringVar(&o.resource, "resource", "", "name of the resource (default: the only one)")
	f.StringVar(&o.database, "database", "", "database that the client names")
	f.StringVar(&o.user, "user", "", "database user that the client names")
	f.StringVar(&o.application, "application", "", "what the client calls itself")
	f.StringVar(&o.policy, "policy", "", "policy file or folder (default: that of the configuration)")
	f.StringVar(&o.server, "server", "", "where the server is reached: HOST:PORT, or the folder of its unix socket")
	f.StringVar(&o.why, "justification", "", "why the client says that it needs to see what is masked")
	f.StringVar(&o.at, "at", "", "when, as 2006-01-02T15:04:05Z (default: now)")
	f.BoolVar(&o.undecoded, "undecoded", false, "ask about a session that can't be read, in place of a statement")
	f.BoolVar(&o.json, "json", false, "print one JSON object")
	cmd.MarkFlagDirname("server")
	return cmd
}

// explanation is what explain found; a request that never comes to the
// statement is that of the login.
type explanation struct {
	Verdict   string   `json:"verdict"` // allow, mask, block, deny
	Request   string   `json:"request"` // login, statement, undecoded
	Rules     []string `json:"rules"`
	Reason    string   `json:"reason,omitempty"`
	Remedy    string   `json:"remedy,omitempty"`
	Commands  []string `json:"commands,omitempty"`
	Objects   []string `json:"objects,omitempty"`  // "read clinic.patients"
	Masked    []string `json:"masked,omitempty"`   // "clinic.patients.ssn: partial, last 4"
	Revealed  []string `json:"revealed,omitempty"` // "clinic.patients.ssn"; what follows a colon says what it takes
	Would     string   `json:"would,omitempty"`    // "would-mask by names: clinic.patients.name", and does not
	Detects   []string `json:"detects,omitempty"`  // "identifiers in notes: ssn, email"
	Filtered  []string `json:"filtered,omitempty"` // "clinic.visits: clinic_id = '7'"
	Subjects  []string `json:"subjects,omitempty"` // "patient", "not known of all: ..."
	Limits    []string `json:"limits,omitempty"`   // "reads: 100 rows a statement"
	Rewritten string   `json:"rewritten,omitempty"`
	Relayed   bool     `json:"relayed,omitempty"` // byte for byte, without an analysis
	Record    string   `json:"record,omitempty"`
	Warnings  []string `json:"warnings,omitempty"`

	masked, revealed []string // fields; masked with their masks' names
}

// undecodedRequest is of a session that can't be read.
const undecodedRequest = "undecoded"

func (o *explainOptions) explain(cmd *cobra.Command, sql string) (*explanation, error) {
	cfg, err := commandConfig(cmd)
	if err != nil {
		return nil, err
	}
	s, res, now, err := o.session(cfg)
	if err != nil {
		return nil, configError(err)
	}
	path := cfg.Policy
	if o.policy != "" {
		path = o.policy
	}
	p, err := rules.Load(path)
	if err != nil {
		return nil, badPolicy(err)
	}
	if o.undecoded {
		x := &explanation{Request: undecodedRequest}
		x.decided(p.Evaluate(&policy.Request{Session: s, Kind: policy.Undecoded, Now: now, Scope: p.Scope(s, now), Commands: []string{undecodedRequest}, Writes: true}), nil)
		if x.Record = ""; !res.TLS.Passes() {
			x.Warnings = append(x.Warnings, "resource "+res.Name+" has no such way: tls.undecoded is never")
		}
		return x, nil
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	q := newInquiry(cfg, p, o.server)
	defer q.close()
	return q.ask(ctx, s, now, sql)
}

// session describes who asks for what, and when.
func (o *explainOptions) session(cfg *config.Config) (*policy.Session, *config.Resource, time.Time, error) {
	now := time.Now()
	fail := func(format string, args ...any) (*policy.Session, *config.Resource, time.Time, error) {
		return nil, nil, now, fmt.Errorf(format, args...)
	}
	if o.at != "" {
		var err error
		if now, err = time.Parse(time.RFC3339, o.at); err != nil {
			return fail("--at %q: write a time like 2026-03-01T23:00:00Z", o.at)
		}
	}
	if o.as == "" || o.database == "" && !o.undecoded {
		return fail("say who asks and for which database: --as WORKLOAD --database DB")
	}
	s, err := sessionAs(o.as, now)
	if err != nil {
		return fail("%w", err)
	}
	res, err := o.find(cfg)
	if err != nil {
		return nil, nil, now, err
	}
	s.Resource, s.Protocol, s.Labels = res.Name, res.Protocol, res.Labels
	s.User, s.Database, s.Application = o.user, o.database, o.application
	s.Justify(o.why)
	return s, res, now, nil
}

// find returns the resource that is meant.
func (o *explainOptions) find(cfg *config.Config) (*config.Resource, error) {
	var res *config.Resource
	var names []string
	for i := range cfg.Resources {
		r := &cfg.Resources[i]
		names = append(names, r.Name)
		if r.Name == o.resource || o.resource == "" && len(cfg.Resources) == 1 {
			res = r
		}
	}
	if res == nil {
		return nil, fmt.Errorf("--resource %q: name one of %s", o.resource, strings.Join(names, ", "))
	}
	if res.Protocol != "postgres" {
		return nil, fmt.Errorf("resource %s speaks %s: only postgres can be asked", res.Name, res.Protocol)
	}
	return res, nil
}

// runs: "approve" does once it is approved.
func (x *explanation) runs() bool {
	return x.Verdict == "allow" || x.Verdict == "mask" || x.Verdict == "approve"
}

// decided takes over a decision; an is nil where nothing was analysed.
func (x *explanation) decided(e policy.Evaluation, an *query.Analysis) {
	x.Verdict = map[policy.Effect]string{policy.EffectAllow: "allow", policy.EffectMask: "mask", policy.EffectBlock: "block", policy.EffectApprove: "approve"}[e.Effect]
	if x.Verdict == "" {
		x.Verdict = "deny"
	}
	x.Rules, x.Reason, x.Remedy, x.Record = e.Rules, e.Reason, e.Remedy, ""
	if x.runs() {
		x.Record = recordingText(e.Record)
	}
	if an == nil {
		return
	}
	x.Commands = an.Commands
	for _, o := range an.Objects {
		x.Objects = append(x.Objects, o.Access.String()+" "+o.String())
	}
	if x.runs() {
		x.Rewritten = an.SQL
	}
}

func (x *explanation) masks(sc *policy.Scope, an *query.Analysis) {
	for _, f := range an.Masked {
		m := sc.Mask(f)
		if m.Kind == policy.MaskReveal {
			continue
		}
		where := ""
		if mask.Keyed(m) {
			where = ", redacted here"
			for _, o := range an.Outputs {
				if o.Of == (policy.Relation{Schema: f.Schema, Name: f.Relation}) && o.Column == f.Column {
					where = ", in each row that comes"
				}
			}
		}
		x.Masked = append(x.Masked, f.String()+": "+mask.Describe(m)+where)
	}
}

// names tells whose rows go on the record.
func (x *explanation) names(an *query.Analysis) {
	if !x.runs() {
		return
	}
	for _, s := range an.Subjects {
		if !slices.Contains(x.Subjects, s.Name) {
			x.Subjects = append(x.Subjects, s.Name)
		}
	}
	if an.Untold != "" {
		x.Subjects = append(x.Subjects, "not known of "+an.Untold)
	}
}

// detects tells what is looked for in the result.
func (x *explanation) detects(sc *policy.Scope, an *query.Analysis) {
	for i := range sc.Detects {
		d := sc.Detects[i].Within(an.Objects)
		if d == nil {
			continue
		}
		var kinds []string
		for k := range detect.Set(d.Kinds).Each() {
			kinds = append(kinds, k.String())
		}
		x.Detects = append(x.Detects, d.Rule+": "+strings.Join(kinds, ", "))
	}
}

func recordingText(r policy.Recording) string {
	switch r.Level {
	case policy.RecordEvents:
		return "events only"
	case policy.RecordStatement:
		return "the statement, not its result"
	}
	n := r.Limit
	if n == 0 {
		n = policy.DefaultRecordLimit
	}
	return fmt.Sprintf("in full, up to %d bytes of result", n)
}

func (x *explanation) print(w io.Writer) error {
	var b strings.Builder
	line := func(k string, vs ...string) {
		for i, v := range vs {
			if v != "" {
				fmt.Fprintf(&b, "%-10s %s\n", k, render.Line(v))
			}
			if i == 0 {
				k = ""
			}
		}
	}
	line("verdict", x.Verdict)
	switch x.Request {
	case undecodedRequest:
		line("request", "undecoded: a session whose TLS is with the server itself")
	case "login":
		line("request", "login: the statement would never be sent")
	}
	line("rules", strings.Join(x.Rules, ", "))
	line("reason", x.Reason)
	line("remedy", x.Remedy)
	line("does", strings.Join(x.Commands, ", "))
	line("reaches", x.Objects...)
	line("masks", x.Masked...)
	line("reveals", x.Revealed...)
	line("filters", x.Filtered...)
	line("observes", x.Would)
	line("detects", x.Detects...)
	line("subjects", x.Subjects...)
	line("limits", x.Limits...)
	line("records", x.Record)
	switch {
	case x.Relayed:
		line("sends", "the client's own bytes: nothing but unconditional allow rules can match here")
	case x.Rewritten != "":
		fmt.Fprintf(&b, "%-10s %s\n", "sends", strings.ReplaceAll(render.Text(x.Rewritten), "\n", "\n           "))
	case x.runs():
		line("sends", "the client's own bytes")
	}
	line("warning", x.Warnings...)
	_, err := io.WriteString(w, b.String())
	return err
}

var errNoCatalog = errors.New("the resource has no catalog: give resources[].catalog a user in sallyport.yaml, so that names in statements can be resolved")
