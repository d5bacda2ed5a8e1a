package metrics

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// maxScrapes bounds the scrapes that are answered at once: more are a mistake, or an attack.
const maxScrapes = 4

// Handler serves the given collectors to Prometheus, and with them those of the Go runtime and of the
// process. A collector that fails costs the scrape its own metrics only; the failure is logged, and
// counted in promhttp_metric_handler_errors_total.
func Handler(log *slog.Logger, cs ...prometheus.Collector) (http.Handler, error) {
	// A registry of its own, as the default one is a global that any library may write to.
	registry := prometheus.NewPedanticRegistry()
	cs = append(cs, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	for _, c := range cs {
		if err := registry.Register(c); err != nil {
			return nil, fmt.Errorf("register metrics: %w", err)
		}
	}
	return promhttp.HandlerFor(registry, promhttp.HandlerOpts{
		ErrorLog:            errorLog{log},
		ErrorHandling:       promhttp.ContinueOnError,
		Registry:            registry,
		MaxRequestsInFlight: maxScrapes,
	}), nil
}

// errorLog passes on what promhttp has to say.
type errorLog struct{ log *slog.Logger }

var _ promhttp.Logger = errorLog{}

// Println logs one line, as a [prometheus.MultiError] has several. Of an answer that could not be sent
// it leaves out where to: that is a client's address.
func (l errorLog) Println(v ...any) {
	for i := range v {
		err, _ := v[i].(error)
		if op, ok := errors.AsType[*net.OpError](err); ok {
			v[i] = op.Err
		}
	}
	text := strings.Join(strings.Fields(fmt.Sprintln(v...)), " ")
	l.log.Error("metrics are incomplete", "error", text)
}
