package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
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

// policyCase is a request, described as an analysis would, and what must come
// of it.
type policyCase struct {
	Name     string            `yaml:"name"`
	As       string            `yaml:"as"` // as for explain --as
	Resource string            `yaml:"resource"`
	Labels   map[string]string `yaml:"labels"`
	Database string            `yaml:"database"`
	User     string            `yaml:"user"`
	At       time.Time         `yaml:"at"` // default: now
	Commands []string          `yaml:"commands"`
	Objects  []string          `yaml:"objects"` // "read clinic.patients"
	Fields   []string          `yaml:"fields"`  // read by the statement: schema.relation.column
	Text     string            `yaml:"text"`
	Want     string            `yaml:"want"`
	Rules    []string          `yaml:"rules"` // that decide; default: any

	line int
}

// caseFailure is a test that did not come out as wanted; with --json it is one
// object.
type caseFailure struct {
	File      string   `json:"file"`
	Line      int      `json:"line"`
	Name      string   `json:"name"`
	Verdict   string   `json:"verdict"`
	Rules     []string `json:"rules"`
	Want      string   `json:"want"`
	WantRules []string `json:"want_rules,omitempty"`
	Reason    string   `json:"reason"`
}

func (f *caseFailure) String() string {
	return fmt.Sprintf("%s:%d: %s: %s by %s, want %s by %s; %s", f.File, f.Line, f.Name,
		f.Verdict, strings.Join(f.Rules, ", "), f.Want, strings.Join(f.WantRules, ", "), f.Reason)
}

func policyTestCmd() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "test FILE...",
		Short: "Run tables of requests against a policy",
		Long: `Runs tests that stand beside a policy, in files named like policy.test.yaml. Each
describes a request and says what must come of it; no server is needed.
docs/policy.md describes the form.

Exit codes: 0 all as wanted, 1 not, 2 a bad file or policy.`,
		Example: `  sallyport policy test /etc/sallyport/policy.test.yaml
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
				n, bad, err := runCases(file)
				if err != nil {
					return configError(err)
				}
				ran, failed = ran+n, append(failed, bad...)
			}
			if asJSON {
				if err := printJSON(out, map[string]any{"ran": ran, "failed": failed}); err != nil {
					return err
				}
			} else {
				for _, f := range failed {
					fmt.Fprintln(out, render.Line(f.String()))
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
	return cmd
}

// runCases runs a file's tests and returns what is not as wanted.
func runCases(file string) (ran int, failed []*caseFailure, err error) {
	cases, err := readCases(file)
	if err != nil {
		return 0, nil, err
	}
	p, err := rules.Load(filepath.Join(filepath.Dir(file), cases.Policy))
	if err != nil {
		return 0, nil, err
	}
	for _, c := range cases.Tests {
		r, err := c.request(p)
		if err != nil {
			return 0, nil, fmt.Errorf("%s:%d: %w", file, c.line, err)
		}
		x := &explanation{}
		x.decided(p.Evaluate(r), nil)
		slices.Sort(c.Rules)
		got := slices.Sorted(slices.Values(x.Rules))
		if x.Verdict != c.Want || len(c.Rules) > 0 && !slices.Equal(got, c.Rules) {
			failed = append(failed, &caseFailure{File: file, Line: c.line, Name: c.Name, Verdict: x.Verdict, Rules: got, Want: c.Want, WantRules: c.Rules, Reason: x.Reason})
		}
	}
	return len(cases.Tests), failed, nil
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
		c.Tests[i].line = doc.Tests[i].Line
	}
	return c, nil
}

// request makes the request that a test describes. Fields that it reads are
// masked if the policy masks them.
func (c *policyCase) request(p *rules.Policy) (*policy.Request, error) {
	at := c.At
	if at.IsZero() {
		at = time.Now()
	}
	if !slices.Contains([]string{"allow", "mask", "block", "deny"}, c.Want) {
		return nil, fmt.Errorf("want %q: use allow, mask, block or deny", c.Want)
	}
	s, err := sessionAs(c.As, at)
	if err != nil {
		return nil, err
	}
	s.Resource, s.Protocol, s.Labels, s.Database, s.User = c.Resource, "postgres", c.Labels, c.Database, c.User
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
