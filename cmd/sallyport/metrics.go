package main

import (
	"log/slog"
	"math"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"sallyport.dev/sallyport/events/journal"
	"sallyport.dev/sallyport/intercept/redirect"
)

// metrics are the daemon's counters. Labels come from the configuration and
// from fixed words only, never from a client.
type metrics struct {
	reg        *prometheus.Registry
	flows      *prometheus.CounterVec // resource
	refused    *prometheus.CounterVec // resource, why
	sessions   *prometheus.GaugeVec   // resource
	undecoded  *prometheus.CounterVec // resource
	bound      prometheus.Histogram
	bypasses   prometheus.Counter
	strays     prometheus.Counter
	reloads    *prometheus.CounterVec // result
	statements *prometheus.CounterVec // verdict
	unrecorded prometheus.Counter
	unobserved prometheus.Counter
	revoked    prometheus.Counter
	enforcing  prometheus.Gauge
	placed     prometheus.Gauge

	canaries   prometheus.Counter
	whole      prometheus.Gauge
	lost       prometheus.Gauge
	neighbours prometheus.Gauge
	closed     prometheus.Gauge
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
			Name: "sallyport_reloads_total", Help: "Reloads of configuration and policy, by result: ok, refused.",
		}, []string{"result"}),
		statements: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sallyport_decisions_total", Help: "Decisions on the record, by verdict: allow, mask, block, deny, observed.",
		}, []string{"verdict"}),
		unrecorded: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "sallyport_unrecorded_total", Help: "Events that the journal did not take; what needed them was refused.",
		}),
	}
	m.undecoded = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "sallyport_undecoded_total", Help: "Sessions whose TLS is with the server itself: what was said in them is on no record.",
	}, []string{"resource"})
	m.bound = prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "sallyport_bind_seconds", Help: "Time to prove whose a connection is, successful or not.",
		Buckets: []float64{25e-6, 50e-6, 75e-6, 100e-6, 150e-6, 200e-6, 300e-6, 500e-6, 1e-3, 2e-3, 5e-3, 10e-3, 25e-3, 50e-3, .1, .25, 1, 5, 10},
	})
	m.revoked = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "sallyport_revoked_total", Help: "Running sessions ended because their identity was gone, had expired or had become another.",
	})
	m.unobserved = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "sallyport_unobserved_total", Help: "Connections that were relayed without a whole record, while nothing was enforced.",
	})
	m.enforcing = prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "sallyport_enforcing", Help: "0 while nothing is enforced (enforcement: observe), else 1.",
	})
	m.placed = prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "sallyport_placement", Help: "1 where the kernel leads connections here and processes are proved; 0 for sallyport proxy.",
	})
	m.placed.Set(1)
	m.canaries = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "sallyport_canaries_total", Help: "Connections of the guard's own that tried the passage.",
	})
	m.whole = prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "sallyport_guard_whole", Help: "1 while every program was found attached in its place, else 0.",
	})
	m.lost = prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "sallyport_canaries_lost", Help: "Guarded cgroups whose last canaries did not get into the passage.",
	})
	m.neighbours = prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "sallyport_guard_neighbours", Help: "BPF programs of others that may rewrite connections.",
	})
	m.closed = prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "sallyport_namespaces_without_passage", Help: "Network namespaces of covered processes in which the passage could not be opened.",
	})
	m.reg.MustRegister(m.canaries, m.whole, m.lost, m.neighbours, m.closed, m.unobserved, m.revoked, m.enforcing, m.placed, m.flows, m.refused, m.sessions, m.undecoded, m.bound, m.bypasses, m.strays, m.reloads, m.statements, m.unrecorded,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// gauge adds a figure that somebody else keeps.
func (m *metrics) gauge(name, help string, f func() float64) {
	m.reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, f))
}

func (m *metrics) journal(stats func() journal.Stats) {
	add := func(name, help string, f func(journal.Stats) int64) {
		m.gauge("sallyport_journal_"+name, help, func() float64 { return float64(f(stats())) })
	}
	add("used_bytes", "Bytes of the journal.", func(s journal.Stats) int64 { return s.Used })
	add("reserved_bytes", "Bytes that are kept for outcomes of what has begun.", func(s journal.Stats) int64 { return s.Reserved })
	add("max_bytes", "The journal is full at this size (evidence.journal.max_bytes).", func(s journal.Stats) int64 { return s.Max })
	add("appended", "Number of the newest record.", func(s journal.Stats) int64 { return int64(s.Appended) })
	add("durable", "Number of the newest record on stable storage.", func(s journal.Stats) int64 { return int64(s.Durable) })
	add("failing", "1 while the disk refuses records.", func(s journal.Stats) int64 {
		if s.Err != nil {
			return 1
		}
		return 0
	})
}

// guard adds the kernel's own counters. A figure that can't be read is NaN.
func (m *metrics) guard(read func() (redirect.Counters, error)) {
	add := func(name, help string, f func(redirect.Counters) uint64) {
		m.reg.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "sallyport_guard_" + name + "_total", Help: help}, func() float64 {
			c, err := read()
			if err != nil {
				return math.NaN()
			}
			return float64(f(c))
		}))
	}
	add("turned", "Connections that the kernel turned into the passage since the guard came up.", func(c redirect.Counters) uint64 { return c.Turned })
	add("handed", "Records that the kernel handed to an accepted connection.", func(c redirect.Counters) uint64 { return c.Handed })
	add("refused", "System calls that the kernel refused.", func(c redirect.Counters) uint64 { return c.Refused })
	add("dropped", "Packets that the kernel dropped.", func(c redirect.Counters) uint64 { return c.Dropped })
	add("unreported", "Reports that were not kept: too many, or nobody read them.", func(c redirect.Counters) uint64 { return c.Suppressed + c.Lost })
}

// serve answers /metrics on l, which it owns.
func (m *metrics) serve(l net.Listener, log *slog.Logger) {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(m.reg, promhttp.HandlerOpts{}))
	srv := &http.Server{Handler: mux, ReadTimeout: 5 * time.Second, WriteTimeout: 10 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 8 << 10}
	log.Error("metrics are not served", "error", srv.Serve(l))
}
