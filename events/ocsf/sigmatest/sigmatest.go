// Package sigmatest holds events against the Sigma rules of packaging/sigma, for
// tests.
package sigmatest

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/bradleyjkemp/sigma-go"
	"github.com/bradleyjkemp/sigma-go/evaluator"
)

// Rule is one of a file.
type Rule struct {
	Name string // bypass, of sallyport_bypass.yml
	File string
	Text []byte
	sigma.Rule
}

// Rules reads all, in the order of their names.
func Rules() (out []Rule, err error) {
	_, here, _, _ := runtime.Caller(0)
	files, err := filepath.Glob(filepath.Join(filepath.Dir(here), "../../../packaging/sigma/*.yml"))
	if err != nil || len(files) == 0 {
		return nil, fmt.Errorf("sigmatest: no rules (%w)", err)
	}
	for _, file := range files {
		r := Rule{File: file, Name: strings.TrimSuffix(strings.TrimPrefix(filepath.Base(file), "sallyport_"), ".yml")}
		if r.Text, err = os.ReadFile(file); err != nil {
			return nil, err
		}
		if r.Rule, err = sigma.ParseRule(r.Text); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		out = append(out, r)
	}
	return out, nil
}

// Matches reports whether the rule matches a published event.
func (r *Rule) Matches(event []byte) (bool, error) {
	var v any
	if err := json.Unmarshal(event, &v); err != nil {
		return false, err
	}
	fields := map[string]any{}
	flat(fields, "", v)
	res, err := evaluator.ForRule(r.Rule).Matches(context.Background(), fields)
	return res.Match, err
}

// Fired names the rules that match one of some published events, in order.
func Fired(published [][]byte) (out []string, err error) {
	rules, err := Rules()
	if err != nil {
		return nil, err
	}
	for i := range rules {
		r := &rules[i]
		for _, e := range published {
			hit, err := r.Matches(e)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", r.File, err)
			}
			if hit && !slices.Contains(out, r.Name) {
				out = append(out, r.Name)
			}
		}
	}
	return out, nil
}

// flat is an event as a SIEM has it: each field under its path, lists as such.
func flat(to map[string]any, at string, v any) {
	switch v := v.(type) {
	case map[string]any:
		for k, m := range v {
			flat(to, strings.TrimPrefix(at+"."+k, "."), m)
		}
	case []any:
		if len(v) > 0 {
			if _, ok := v[0].(map[string]any); ok {
				for _, m := range v {
					flat(to, at, m)
				}
				return
			}
		}
		to[at] = v
	default:
		to[at] = v
	}
}
