package main

import (
	"sallyport.dev/sallyport/cmd/internal/config"
	"sallyport.dev/sallyport/policy"
	"sallyport.dev/sallyport/policy/rules"
)

// observing says loudly which rules of a policy only observe, when it is put in
// force: what they would hide is shown.
func (d *daemon) observing(e policy.Engine) {
	if p, ok := e.(*rules.Policy); ok {
		for _, x := range p.Observing() {
			d.alarms.raise("observing", x.Error())
		}
	}
}

// observing notes them. A policy that can't be read the daemon refuses.
func (l *findings) observing(cfg *config.Config) {
	p, err := rules.Load(cfg.Policy)
	if err != nil {
		return
	}
	for _, x := range p.Observing() {
		l.note("policy", x.Error(), "remove observe: true from the rule, once the record shows nothing that must not be refused or hidden")
	}
}
