package main

import (
	"bytes"
	"fmt"

	"sallyport.dev/sallyport/cmd/internal/config"
	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/policy/rules"
)

// subjectKey reads the key that subjects are named by, which file holds. A policy that
// needs one is refused without it.
func subjectKey(cfg *config.Config, file []byte, pol *rules.Policy) (*events.SubjectKey, error) {
	if cfg.SubjectKey() == nil {
		return nil, pol.NeedsSubjectKey()
	}
	k, err := events.ParseSubjectKey(bytes.Clone(file)) // the bundle goes on to the daemon
	if err != nil {
		return nil, fmt.Errorf("%s: %w", cfg.At("evidence", "subject_key_file"), err)
	}
	return k, nil
}

// subjectKey returns what subjects are named by, nil for nothing.
func (d *daemon) subjectKey() *events.SubjectKey {
	if s := d.setting.Load(); s != nil {
		return s.subjects
	}
	return nil
}
