package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"sallyport.dev/sallyport/cmd/internal/config"
	"sallyport.dev/sallyport/policy"
	"sallyport.dev/sallyport/policy/rules"
)

// against holds the policy's masks against a database's catalog: what is not
// there, or shows NULL because the mask is not for its type, is an error.
func (rep *checkReport) against(ctx context.Context, p *rules.Policy, cfg *config.Config, o *explainOptions) error {
	res, err := o.find(cfg)
	if err != nil {
		return configError(err)
	}
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	a, err := openAnalysis(ctx, cfg, o, res)
	if err != nil {
		return err
	}
	defer a.close()
	var errs []error
	for _, f := range p.Masked(&policy.Session{Resource: res.Name, Protocol: res.Protocol, Labels: res.Labels, Database: o.database}) {
		if err := a.analyzer.Unfit(f.Field, f.Mask); err != nil {
			e := &rules.Error{File: f.File, Line: f.Line, Problem: err.Error()}
			rep.Errors = append(rep.Errors, e)
			errs = append(errs, e)
		}
	}
	if len(errs) == 0 {
		return nil
	}
	rep.Good = false
	return &exitError{code: 2, hint: "docs/policy.md says which mask is for which types", err: fmt.Errorf("the policy does not fit database %s of %s:\n%w", o.database, res.Name, errors.Join(errs...))}
}
