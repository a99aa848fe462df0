package main

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"time"

	"sallyport.dev/sallyport/cmd/internal/config"
	"sallyport.dev/sallyport/cmd/internal/render"
	"sallyport.dev/sallyport/intercept/privsep"
)

// reload reads everything again and asks the daemon to prepare for it.
func (l *loader) reload() {
	if l.pending != nil || !l.serving {
		l.again = true
		return
	}
	cfg, err := config.Load(l.cfg.Path)
	if err == nil {
		err = fixed(l.cfg, cfg)
	}
	if err == nil {
		err = new(loader).prove(cfg)
	}
	var b *bundle
	if err == nil {
		b, err = gather(cfg)
	}
	if err == nil {
		err = l.send(cfg, b)
	}
	if err != nil {
		l.log.Error("reload refused: the old configuration and policy stay", "error", err)
		l.tell(doRefused, err.Error())
	}
}

// send hands the daemon its bundle.
func (l *loader) send(cfg *config.Config, b *bundle) error {
	f, err := b.seal()
	wipe(b.Secrets)
	b.wipeKeys()
	if err != nil {
		return err
	}
	defer f.Close()
	if err := l.line.order(doPrepare, "", int(f.Fd())); err != nil {
		return fmt.Errorf("hand the daemon its configuration: %w", err)
	}
	l.pending, l.asked = cfg, time.Now()
	return nil
}

// answered goes on with what the daemon was asked to prepare for. An error
// means that it will end.
func (l *loader) answered(v verdict) error {
	letGo(v.fds)
	if v.To == doSecrets {
		l.rereadSecrets()
		return nil
	}
	if v.To == doLogin || v.To == doApprovals {
		l.loginAnswered(v)
		return nil
	}
	cfg := l.pending
	if v.To != doPrepare || cfg == nil {
		return nil // nobody asked, or waits for it any more
	}
	l.pending = nil
	if !l.serving {
		if v.Err != "" {
			return daemonSaid(v)
		}
		l.tell(doCommit, "")
		l.report()
		l.serving = true
		l.log.Info("serving", "port", cfg.Interception.Port, "daemon", l.child.PID())
		notify("READY=1")
		l.recordNotes()
	} else if err := l.change(cfg, v); err != nil {
		l.log.Error("reload refused: the old configuration and policy stay", "error", err)
	} else {
		l.cfg = cfg
		l.wantNames()
		l.signing.allow(cfg)
		l.log.Info("reloaded", "resources", len(cfg.Resources), "workloads", len(cfg.Identity.Workloads))
	}
	if l.again && !l.stopping {
		l.again = false
		l.reload()
	}
	return nil
}

// change makes the loader's half of a reload while the daemon holds new
// connections back.
func (l *loader) change(cfg *config.Config, v verdict) error {
	if v.Err != "" {
		return daemonSaid(v)
	}
	err := l.bring(cfg)
	if err == nil {
		err = l.prove(cfg)
	}
	if err != nil {
		l.tell(doAbort, err.Error())
		// The guard may have come halfway.
		if uerr := l.bring(l.cfg); uerr != nil {
			err = fmt.Errorf("%w; the guard could not be brought back to the old one: %w", err, uerr)
		}
		l.report()
		return err
	}
	l.tell(doCommit, "")
	l.report()
	return nil
}

// prove gives the prover a configuration's workloads. Without a prover it only
// checks them.
func (l *loader) prove(cfg *config.Config) error {
	all, err := provable(cfg)
	if err != nil || l.prover == nil {
		return err
	}
	return l.prover.SetWorkloads(all)
}

// provable returns a configuration's workloads for a prover, each checked alone
// first, so that an error has a line.
func provable(cfg *config.Config) (all []privsep.Workload, err error) {
	for i, w := range cfg.Identity.Workloads {
		one := privsep.Workload{
			Name: w.Name, TokenFile: w.Token, Tokenless: len(w.Subjects) == 0 && w.SPIFFE != "", InBand: w.InBand != "",
			Match: privsep.Match{
				Cgroup: w.Match.Cgroup, UID: w.Match.UID, Exe: w.Match.Exe,
				Systemd: w.Match.Systemd, Container: w.Match.Container, Kubernetes: w.Match.Kubernetes,
			},
		}
		if err := new(privsep.Prover).SetWorkloads([]privsep.Workload{one}); err != nil {
			return nil, fmt.Errorf("%s: %w", cfg.At("identity", "workloads", i), err)
		}
		all = append(all, one)
	}
	return all, nil
}

// fixed refuses a reload that changes what only a restart can change.
func fixed(old, now *config.Config) error {
	var changed []string
	check := func(name string, a, b any) {
		if !reflect.DeepEqual(a, b) {
			changed = append(changed, name)
		}
	}
	check("host", old.Host, now.Host)
	check("state", old.State, now.State)
	check("run", old.Run, now.Run)
	check("user", old.User, now.User)
	check("metrics", old.Metrics, now.Metrics)
	check("log", old.Log, now.Log)
	check("interception.port", old.Interception.Port, now.Interception.Port)
	check("interception.pins", old.Interception.Pins, now.Interception.Pins)
	check("authority", old.Authority, now.Authority)
	check("identity.spiffe", old.Identity.SPIFFE, now.Identity.SPIFFE)
	check("evidence", old.Evidence, now.Evidence)
	check("limits", old.Limits, now.Limits)
	if len(changed) > 0 {
		return fmt.Errorf("%s: %s can't change in a running sallyport: restart it, or put the old value back", now.Path, strings.Join(changed, ", "))
	}
	return nil
}

// daemonSaid is an error that the daemon sent: text of a process that reads
// hostile bytes.
func daemonSaid(v verdict) error {
	err := errors.New(render.Text(v.Err))
	if v.Config {
		return configError(err)
	}
	return err
}
