package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"sallyport.dev/sallyport/cmd/internal/config"
	"sallyport.dev/sallyport/cmd/internal/export"
	"sallyport.dev/sallyport/cmd/internal/keeping"
	"sallyport.dev/sallyport/cmd/internal/reads"
	"sallyport.dev/sallyport/cmd/internal/render"
	"sallyport.dev/sallyport/events/recorder"
	"sallyport.dev/sallyport/policy/rules"
)

// replayOptions are the flags of replay.
type replayOptions struct {
	policy, store, server, since string
	exports, sessions, claims    []string
	filter                       recorder.Filter
	json                         bool
}

func policyReplayCmd() *cobra.Command {
	var o replayOptions
	cmd := &cobra.Command{
		Use:   "replay --policy NEW",
		Short: "Say what a new policy would have decided otherwise",
		Long: `Decides recorded logins and statements again, under another policy, and lists every
decision that would be another one: another verdict, other fields masked, masked in
another way or revealed, or rows left out. Nothing is run, and nothing is recorded but that
the evidence was read: in the folder reads of the store (--reads), before it is.

Sessions come from the recorder's store, or from files that "sallyport sessions
export" has written as jsonl (--export). Each statement is analysed as it was
recorded, at the time that it was sent, with what its names mean in the resource's
database now. The configuration says where that is.

Not on the record, and so not told here: claims of tokens (give them with --claim;
rules that look at them are named), what was counted for limits, and a justification
with which nothing was revealed. What can't be decided again is counted, with why.

Exit codes: 0 all would be decided as it was, 1 not, or it could not be told; 2 bad
usage, configuration or policy.`,
		Example: `  sallyport policy replay --policy new.yaml --since 24h
  sallyport policy replay --policy new.yaml --session 0198c2 --claim role=nurse --server /run/postgresql
  sallyport policy replay --policy new.yaml --export session.jsonl --json | jq '.changed[]'`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return o.run(cmd) },
	}
	f := cmd.Flags()
	f.StringVar(&o.policy, "policy", "", "the new policy: file or folder (default: that of the configuration)")
	f.StringVar(&o.store, "store", defaultStore, "folder of the recorder's store, or its postgres:// URL")
	f.StringArrayVar(&o.exports, "export", nil, "an exported session (jsonl), in place of the store; repeatable")
	f.StringArrayVar(&o.sessions, "session", nil, "only this session, by its id or the beginning of one; repeatable")
	f.StringVar(&o.filter.Workload, "workload", "", "only of this workload")
	f.StringVar(&o.filter.Resource, "resource", "", "only with this resource")
	f.StringVar(&o.since, "since", "", "only opened since: a duration (90m, 24h) or a time (RFC 3339)")
	f.IntVar(&o.filter.Limit, "limit", 0, "at most so many sessions, the newest (0: all)")
	f.StringArrayVar(&o.claims, "claim", nil, "NAME=VALUE that all tokens are taken to say; repeatable, a list if its name is")
	f.StringVar(&o.server, "server", "", "where the server is reached: HOST:PORT, or the folder of its unix socket")
	f.BoolVar(&o.json, "json", false, "print one JSON object")
	f.String(reads.Flag, "", reads.Usage)
	cmd.MarkFlagDirname("store")
	cmd.MarkFlagDirname(reads.Flag)
	cmd.MarkFlagDirname("server")
	keeping.AddFlags(cmd)
	return cmd
}

// replayed is what replay found.
type replayed struct {
	Sessions  int         `json:"sessions"`
	Decisions int         `json:"decisions"` // that were decided again
	Changed   []changed   `json:"changed"`
	NotTold   []notTold   `json:"not_told"`
	Warnings  []string    `json:"warnings,omitempty"`
	effects   effectNames // of the rules in force now
}

// changed is a decision that would be another one.
type changed struct {
	Session   string    `json:"session"`
	Number    uint64    `json:"number,omitempty"` // of the statement; 0: the login
	Time      time.Time `json:"time"`
	Workload  string    `json:"workload"`
	Resource  string    `json:"resource"`
	Statement string    `json:"normalized,omitempty"`
	Was       outcome   `json:"was"`
	Is        outcome   `json:"is"`
}

// outcome is a decision, as far as it is compared.
type outcome struct {
	Verdict  string   `json:"verdict"`
	Rules    []string `json:"rules"`
	Masked   []string `json:"masked,omitempty"` // "clinic.patients.ssn (partial)"
	Revealed []string `json:"revealed,omitempty"`
	Filters  []string `json:"filters,omitempty"` // the rules that leave rows out
	Reason   string   `json:"reason,omitempty"`
}

// notTold is a decision that could not be made again.
type notTold struct {
	Session string `json:"session"`
	Number  uint64 `json:"number,omitempty"`
	Why     string `json:"why"`
}

func (o *replayOptions) run(cmd *cobra.Command) error {
	cfg, err := commandConfig(cmd)
	if err != nil {
		return err
	}
	path := cfg.Policy
	if o.policy != "" {
		path = o.policy
	}
	p, err := rules.Load(path)
	if err != nil {
		return badPolicy(err)
	}
	claims := map[string]any{}
	for _, c := range o.claims {
		name, value, ok := strings.Cut(c, "=")
		if !ok || name == "" || value == "" {
			return configError(fmt.Errorf("--claim %q: write NAME=VALUE", c))
		}
		addClaim(claims, name, value)
	}
	if o.since != "" {
		if o.filter.Since, err = parseSince(o.since, time.Now()); err != nil {
			return configError(err)
		}
	}
	ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	r := &replay{
		inquiry: newInquiry(cfg, p, o.server), claims: claims,
		found: replayed{Changed: []changed{}, NotTold: []notTold{}, effects: effectsOf(p)},
	}
	defer r.close()
	if now, err := rules.Load(cfg.Policy); err == nil { // names of rules that are gone
		for n, e := range effectsOf(now) {
			if r.found.effects[n] == "" {
				r.found.effects[n] = e
			}
		}
	}
	if of := p.OfClaims(); len(of) > 0 && len(claims) == 0 {
		r.found.Warnings = append(r.found.Warnings, "claims are not on the record, and rules look at them ("+strings.Join(of, ", ")+"): what they decide may be another thing; give claims with --claim")
	}
	if err := o.each(ctx, cmd, func(d *recorder.Detail) error { return r.session(ctx, d) }); err != nil {
		return err
	}
	if r.withheld > 0 {
		r.found.Warnings = append(r.found.Warnings, fmt.Sprintf("of %d statements the exact text can't be read, and they are decided without their literals: %s", r.withheld, r.why))
	}
	return r.found.tell(cmd.OutOrStdout(), o.json)
}

// asked says what is read, for the record of who reads the evidence.
func (o *replayOptions) asked() string {
	if len(o.sessions) > 0 {
		return fmt.Sprintf("sessions %q", o.sessions)
	}
	parts := []string{"all sessions"}
	if o.filter.Workload != "" {
		parts = append(parts, fmt.Sprintf("of the workload %q", o.filter.Workload))
	}
	if o.filter.Resource != "" {
		parts = append(parts, fmt.Sprintf("with the resource %q", o.filter.Resource))
	}
	if !o.filter.Since.IsZero() {
		parts = append(parts, "since "+o.filter.Since.UTC().Format(time.RFC3339))
	}
	if o.filter.Limit > 0 {
		parts = append(parts, fmt.Sprintf("the newest %d", o.filter.Limit))
	}
	return strings.Join(parts, " ")
}

// each calls f for the sessions that are meant.
func (o *replayOptions) each(ctx context.Context, cmd *cobra.Command, f func(*recorder.Detail) error) error {
	for _, file := range o.exports {
		d, err := readExport(file)
		if err == nil {
			err = f(d)
		}
		if err != nil {
			return err
		}
	}
	if len(o.exports) > 0 {
		return nil
	}
	s, err := recorder.OpenReader(o.store)
	if err != nil {
		return configError(err)
	}
	defer s.Close()
	done, err := keeping.Find(ctx, cmd, s, o.store)
	if err != nil {
		return configError(err)
	}
	defer done()
	if err := reading(ctx, cmd, o.asked()); err != nil {
		return err
	}
	var list []recorder.Session
	for _, id := range o.sessions {
		x, err := s.Find(ctx, id)
		if err != nil {
			return configError(err)
		}
		list = append(list, x)
	}
	show := func(x recorder.Session) error {
		d, err := s.Show(ctx, x)
		if err == nil {
			err = f(&d)
		}
		return err
	}
	for _, x := range list {
		if err := show(x); err != nil {
			return err
		}
	}
	if len(o.sessions) > 0 {
		return nil
	}
	for x, err := range s.List(ctx, o.filter) {
		if err == nil {
			err = show(x)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func readExport(file string) (*recorder.Detail, error) {
	b, err := os.Open(file)
	if err != nil {
		return nil, configError(err)
	}
	defer b.Close()
	d, err := export.Read(b)
	if err != nil {
		return nil, configError(fmt.Errorf("%s: %w", file, err))
	}
	return d, nil
}

// effectNames are the effects of rules, by their names.
type effectNames map[string]string

func effectsOf(p *rules.Policy) effectNames {
	out := effectNames{}
	for _, r := range p.Rules() {
		out[r.Name] = r.Effect
	}
	return out
}

// with returns those of the rules that have an effect, sorted.
func (e effectNames) with(effect string, names []string) []string {
	out := slices.DeleteFunc(slices.Clone(names), func(n string) bool { return e[n] != effect })
	slices.Sort(out)
	return out
}

func (x *replayed) tell(w io.Writer, asJSON bool) error {
	if asJSON {
		if err := printJSON(w, x); err != nil {
			return err
		}
	} else if err := x.print(w); err != nil {
		return err
	}
	switch n := len(x.Changed); {
	case n > 0:
		return fmt.Errorf("%d of %s would be another one", n, count(x.Decisions, "decision"))
	case x.Decisions == 0 && len(x.NotTold) > 0:
		return errors.New("nothing could be decided again")
	}
	return nil
}

func (x *replayed) print(w io.Writer) error {
	var b strings.Builder
	for _, m := range x.Warnings {
		fmt.Fprintf(&b, "warning: %s\n", render.Line(m))
	}
	for _, c := range x.Changed {
		what := "login"
		if c.Number > 0 {
			what = fmt.Sprintf("[%d] %s", c.Number, strings.Join(strings.Fields(c.Statement), " "))
		}
		fmt.Fprintf(&b, "%s  %s  %s@%s  %s\n", render.Line(c.Session), c.Time.Local().Format(time.DateTime), render.Line(c.Workload), render.Line(c.Resource), render.Line(what))
		fmt.Fprintf(&b, "    was  %s\n    is   %s\n", render.Line(c.Was.String()), render.Line(c.Is.String()))
	}
	why := map[string]int{}
	for _, n := range x.NotTold {
		why[n.Why]++
	}
	fmt.Fprintf(&b, "%s of %s decided again, %d would be another one\n", count(x.Decisions, "decision"), count(x.Sessions, "session"), len(x.Changed))
	for _, m := range slices.Sorted(maps.Keys(why)) {
		fmt.Fprintf(&b, "%d not decided again: %s\n", why[m], render.Line(m))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (o outcome) String() string {
	s := o.Verdict + " by " + strings.Join(o.Rules, ", ")
	for _, l := range []struct {
		what string
		list []string
	}{{"masked", o.Masked}, {"revealed", o.Revealed}, {"filtered by", o.Filters}} {
		if len(l.list) > 0 {
			s += "; " + l.what + " " + strings.Join(l.list, ", ")
		}
	}
	if o.Reason != "" {
		s += "; " + o.Reason
	}
	return s
}

func (o outcome) same(p outcome) bool {
	return o.Verdict == p.Verdict && slices.Equal(o.Masked, p.Masked) && slices.Equal(o.Revealed, p.Revealed) && slices.Equal(o.Filters, p.Filters)
}

// labelsOf are a resource's, nil of one that the configuration does not have.
func labelsOf(cfg *config.Config, resource string) map[string]string {
	for i := range cfg.Resources {
		if cfg.Resources[i].Name == resource {
			return cfg.Resources[i].Labels
		}
	}
	return nil
}
