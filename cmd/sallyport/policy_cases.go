package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	"sallyport.dev/sallyport/cmd/internal/render"
	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/policy"
	"sallyport.dev/sallyport/policy/rules"
)

// policyCases is a file of tests.
type policyCases struct {
	Policy string       `yaml:"policy"` // file or folder, from this file's folder
	Tests  []policyCase `yaml:"tests"`
}

// policyCase is a request, described as an analysis would or by its statement, and
// what must come of it.
type policyCase struct {
	Name          string            `yaml:"name"`
	As            string            `yaml:"as"` // as for explain --as
	Resource      string            `yaml:"resource"`
	Labels        map[string]string `yaml:"labels"`
	Database      string            `yaml:"database"`
	User          string            `yaml:"user"`
	Justification string            `yaml:"justification"`
	At            time.Time         `yaml:"at"` // default: now

	Statement string   `yaml:"statement"` // analysed, in place of the next four
	Commands  []string `yaml:"commands"`
	Objects   []string `yaml:"objects"` // "read clinic.patients"
	Fields    []string `yaml:"fields"`  // read by the statement: schema.relation.column
	Text      string   `yaml:"text"`

	Want  string   `yaml:"want"`
	Rules []string `yaml:"rules"` // that decide; default: any

	// What explain prints of it; nil: any.
	Rewritten *string   `yaml:"rewritten"`
	Masks     *[]string `yaml:"masks"`
	Reveals   *[]string `yaml:"reveals"`
	Filters   *[]string `yaml:"filters"`
	Would     *string   `yaml:"would"`

	line int
	at   map[string]int // the lines of its keys
}

// caseFailure is a test that did not come out as wanted; with --json it is one
// object.
type caseFailure struct {
	File      string     `json:"file"`
	Line      int        `json:"line"`
	Name      string     `json:"name"`
	Verdict   string     `json:"verdict"`
	Rules     []string   `json:"rules"`
	Want      string     `json:"want"`
	WantRules []string   `json:"want_rules,omitempty"`
	Reason    string     `json:"reason"`
	Differs   []caseDiff `json:"differs,omitempty"` // of what else was wanted
}

// caseDiff is one thing that is not as wanted.
type caseDiff struct {
	Line int    `json:"line"`
	What string `json:"what"` // the test's key
	Is   string `json:"is"`
	Want string `json:"want"`
}

// lines are what is printed of it.
func (f *caseFailure) lines() (out []string) {
	if f.Verdict != f.Want || len(f.WantRules) > 0 && !slices.Equal(f.Rules, f.WantRules) {
		want := f.Want
		if len(f.WantRules) > 0 {
			want += " by " + strings.Join(f.WantRules, ", ")
		}
		line := fmt.Sprintf("%s:%d: %s: %s by %s, want %s", f.File, f.Line, f.Name, f.Verdict, strings.Join(f.Rules, ", "), want)
		if f.Reason != "" {
			line += "; " + f.Reason
		}
		out = append(out, line)
	}
	for _, d := range f.Differs {
		out = append(out, fmt.Sprintf("%s:%d: %s: %s: %s, want %s", f.File, d.Line, f.Name, d.What, orNothing(d.Is), orNothing(d.Want)))
	}
	return out
}

func orNothing(s string) string {
	if s == "" {
		return "nothing"
	}
	return s
}

func policyTestCmd() *cobra.Command {
	var asJSON bool
	var server string
	cmd := &cobra.Command{
		Use:   "test FILE...",
		Short: "Run tables of requests against a policy",
		Long: `Runs tests that stand beside a policy, in files named like policy.test.yaml. Each
describes a request and says what must come of it. docs/policy.md describes the
form.

A test that gives a statement, in place of what it does, has it analysed as explain
would: what its names mean is read from the database of its resource in the
configuration. The others need no server and no configuration.

What is not as wanted is printed with its file and line.

Exit codes: 0 all as wanted, 1 not, 2 a bad file, configuration or policy.`,
		Example: `  sallyport policy test /etc/sallyport/policy.test.yaml
  sallyport policy test --server /run/postgresql statements.test.yaml
  sallyport policy test policy.d/*.test.yaml --json | jq '.failed[].name'`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return configError(errors.New("name the files with tests"))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			out, ran, failed := cmd.OutOrStdout(), 0, []*caseFailure{}
			for _, file := range args {
				n, bad, err := runCases(cmd, file, server)
				if err != nil {
					return err
				}
				ran, failed = ran+n, append(failed, bad...)
			}
			if asJSON {
				if err := printJSON(out, map[string]any{"ran": ran, "failed": failed}); err != nil {
					return err
				}
			} else {
				for _, f := range failed {
					for _, line := range f.lines() {
						fmt.Fprintln(out, render.Line(line))
					}
				}
			}
			if len(failed) > 0 {
				return fmt.Errorf("%d of %s failed", len(failed), count(ran, "test"))
			}
			if !asJSON {
				fmt.Fprintf(out, "%s passed\n", count(ran, "test"))
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	cmd.Flags().StringVar(&server, "server", "", "where the server of statements is reached: HOST:PORT, or the folder of its unix socket")
	cmd.MarkFlagDirname("server")
	return cmd
}

// runCases runs a file's tests and returns what is not as wanted.
func runCases(cmd *cobra.Command, file, server string) (ran int, failed []*caseFailure, err error) {
	cases, err := readCases(file)
	if err != nil {
		return 0, nil, configError(err)
	}
	p, err := rules.Load(filepath.Join(filepath.Dir(file), cases.Policy))
	if err != nil {
		return 0, nil, configError(err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var q *inquiry // of tests with statements
	for i := range cases.Tests {
		c := &cases.Tests[i]
		if c.Statement != "" && q == nil {
			cfg, err := commandConfig(cmd)
			if err != nil {
				return 0, nil, err
			}
			q = newInquiry(cfg, p, server)
			defer q.close()
		}
		x, err := c.explanation(ctx, p, q)
		if err != nil {
			return 0, nil, at(fmt.Sprintf("%s:%d: ", file, c.line), err)
		}
		if f := c.holds(x); f != nil {
			f.File = file
			failed = append(failed, f)
		}
	}
	return len(cases.Tests), failed, nil
}

// at puts where it is before what went wrong.
func at(where string, err error) error {
	var e *exitError
	if errors.As(err, &e) {
		return &exitError{code: e.code, hint: e.hint, err: fmt.Errorf("%s%w", where, e.err)}
	}
	return configError(fmt.Errorf("%s%w", where, err))
}

// explanation is what becomes of the request that a test describes.
func (c *policyCase) explanation(ctx context.Context, p *rules.Policy, q *inquiry) (*explanation, error) {
	s, now, err := c.session()
	if err != nil {
		return nil, err
	}
	if c.Statement == "" {
		if c.Rewritten != nil || c.Masks != nil || c.Reveals != nil || c.Filters != nil || c.Would != nil {
			return nil, errors.New("rewritten, masks, reveals, filters and would are of a statement: give one")
		}
		r, err := c.request(p, s, now)
		if err != nil {
			return nil, err
		}
		x := &explanation{}
		x.decided(p.Evaluate(r), nil)
		return x, nil
	}
	if len(c.Commands)+len(c.Objects)+len(c.Fields) > 0 || c.Text != "" {
		return nil, errors.New("statement: what it does is read from it: leave commands, objects, fields and text out")
	}
	res, err := q.resource(c.Resource)
	if err != nil {
		return nil, err
	}
	if c.Database == "" {
		return nil, errors.New("statement: name the database that it is for")
	}
	s.Resource = res.Name
	if c.Labels == nil {
		s.Labels = res.Labels
	}
	q.begin()
	return q.ask(ctx, s, now, c.Statement)
}

// holds returns how an explanation is not what the test wants; nil: it is.
func (c *policyCase) holds(x *explanation) *caseFailure {
	slices.Sort(c.Rules)
	f := &caseFailure{
		Line: c.line, Name: c.Name, Verdict: x.Verdict, Rules: slices.Sorted(slices.Values(x.Rules)),
		Want: c.Want, WantRules: c.Rules, Reason: x.Reason,
	}
	differs := func(what, is, want string) {
		if is != want {
			f.Differs = append(f.Differs, caseDiff{c.at[what], what, is, want})
		}
	}
	if c.Rewritten != nil {
		differs("rewritten", x.Rewritten, strings.TrimSpace(*c.Rewritten))
	}
	if c.Would != nil {
		differs("would", x.Would, *c.Would)
	}
	for _, l := range []struct {
		what string
		want *[]string
		is   []string
	}{{"masks", c.Masks, x.Masked}, {"reveals", c.Reveals, x.Revealed}, {"filters", c.Filters, x.Filtered}} {
		if l.want != nil {
			sorted := func(s []string) string { return strings.Join(slices.Sorted(slices.Values(s)), "; ") }
			differs(l.what, sorted(l.is), sorted(*l.want))
		}
	}
	if len(f.Differs) == 0 && x.Verdict == c.Want && (len(c.Rules) == 0 || slices.Equal(f.Rules, c.Rules)) {
		return nil
	}
	return f
}

func readCases(file string) (*policyCases, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	c := &policyCases{}
	dec := yaml.NewDecoder(bytes.NewReader(b))
	dec.KnownFields(true)
	if err := dec.Decode(c); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	if c.Policy == "" || filepath.IsAbs(c.Policy) || len(c.Tests) == 0 {
		return nil, fmt.Errorf("%s: it needs a policy (a path from this file's folder) and tests", file)
	}
	var doc struct {
		Tests []yaml.Node `yaml:"tests"`
	}
	if err := yaml.Unmarshal(b, &doc); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	for i := range c.Tests {
		n := &doc.Tests[i]
		c.Tests[i].line, c.Tests[i].at = n.Line, map[string]int{}
		for k := 0; k+1 < len(n.Content); k += 2 {
			c.Tests[i].at[n.Content[k].Value] = n.Content[k].Line
		}
	}
	return c, nil
}

// session makes who asks, and when.
func (c *policyCase) session() (*policy.Session, time.Time, error) {
	at := c.At
	if at.IsZero() {
		at = time.Now()
	}
	if !slices.Contains([]string{"allow", "mask", "approve", "block", "deny"}, c.Want) {
		return nil, at, fmt.Errorf("want %q: use allow, mask, block or deny", c.Want)
	}
	s, err := sessionAs(c.As, at)
	if err != nil {
		return nil, at, err
	}
	s.Resource, s.Protocol, s.Labels, s.Database, s.User = c.Resource, "postgres", c.Labels, c.Database, c.User
	s.Justify(c.Justification)
	return s, at, nil
}

// request makes the request that a test describes. Fields that it reads are
// masked if the policy masks them.
func (c *policyCase) request(p *rules.Policy, s *policy.Session, at time.Time) (*policy.Request, error) {
	sc := p.Scope(s, at)
	r := &policy.Request{Session: s, Kind: policy.StatementReq, Now: at, Scope: sc, Number: 1, Commands: c.Commands, Text: c.Text}
	if slices.Equal(c.Commands, []string{"login"}) {
		r.Kind = policy.Login
	}
	if slices.Contains(c.Commands, undecodedRequest) {
		if len(c.Commands) > 1 || c.Database != "" || c.User != "" || c.Text != "" || len(c.Objects)+len(c.Fields) > 0 {
			return nil, errors.New("commands: undecoded: nothing is known but who connects, and to what: leave database, user, objects, fields and text out")
		}
		r.Kind, r.Writes = policy.Undecoded, true
	}
	for _, o := range c.Objects {
		name, rel, _ := strings.Cut(o, " ")
		access, ok := policy.ParseAccess(name)
		schema, rel, dot := strings.Cut(rel, ".")
		if !ok || !dot {
			return nil, fmt.Errorf("object %q: write an access and a relation, like read clinic.patients", o)
		}
		r.Objects = append(r.Objects, policy.Object{Schema: schema, Name: rel, Access: access})
		r.Writes = r.Writes || access != policy.Read
	}
	for _, f := range c.Fields {
		part := strings.Split(f, ".")
		if len(part) != 3 {
			return nil, fmt.Errorf("field %q: write schema.relation.column", f)
		}
		if _, masked := sc.Masks[policy.Relation{Schema: part[0], Name: part[1]}][part[2]]; masked {
			r.Masked = append(r.Masked, events.Field{Schema: part[0], Relation: part[1], Column: part[2]})
		}
	}
	return r, nil
}
