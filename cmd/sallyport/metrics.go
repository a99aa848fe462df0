package main

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// metrics are the daemon's counters. Labels come from the configuration and
// from fixed words only, never from a client.
type metrics struct {
	reg        *prometheus.Registry
	flows      *prometheus.CounterVec // resource
	refused    *prometheus.CounterVec // resource, why
	sessions   *prometheus.GaugeVec   // resource
	bypasses   prometheus.Counter
	strays     prometheus.Counter
	reloads    *prometheus.CounterVec // result
	statements *prometheus.CounterVec // verdict
}

func newMetrics() *metrics {
	m := &metrics{
		reg: prometheus.NewRegistry(),
		flows: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sallyport_flows_total", Help: "Connections turned into the passage.",
		}, []string{"resource"}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sallyport_refused_total", Help: "Connections refused before a login was decided.",
		}, []string{"resource", "why"}),
		sessions: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "sallyport_sessions", Help: "Sessions open now.",
		}, []string{"resource"}),
		bypasses: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "sallyport_bypasses_total", Help: "Bypass events: packets or sockets that tried to go round the passage.",
		}),
		strays: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "sallyport_strays_total", Help: "Connections to the passage's own port that the kernel did not turn there.",
		}),
		reloads: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sallyport_reloads_total", Help: "Policy reloads.",
		}, []string{"result"}),
		statements: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sallyport_decisions_total", Help: "Decisions by verdict.",
		}, []string{"verdict"}),
	}
	m.reg.MustRegister(m.flows, m.refused, m.sessions, m.bypasses, m.strays, m.reloads, m.statements,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// gauge adds a figure that somebody else keeps.
func (m *metrics) gauge(name, help string, f func() float64) {
	m.reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, f))
}

// serve answers /metrics on addr until ctx ends.
func (m *metrics) serve(ctx context.Context, addr string, log *slog.Logger) {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(m.reg, promhttp.HandlerOpts{}))
	srv := &http.Server{Addr: addr, Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	context.AfterFunc(ctx, func() { srv.Close() })
	if err := srv.ListenAndServe(); err != nil && ctx.Err() == nil {
		log.Error("metrics are not served", "address", addr, "error", err)
	}
}
