package metrics_test

import (
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/kisgrid/kisgrid/pkg/kis"
	"github.com/kisgrid/kisgrid/pkg/kis/common"
	"github.com/kisgrid/kisgrid/pkg/kis/config"
	"github.com/kisgrid/kisgrid/pkg/kis/metrics"
)

func TestStart(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := config.GlobalConfig
	t.Cleanup(func() { *g = config.KisGlobalConfig{} })
	if metrics.Current() != nil {
		t.Error("metrics are on by default")
	}
	g.EnableProm = true
	if m := metrics.Current(); m == nil { // also without InitMetrics
		t.Error("there are no metrics")
	}
	metrics.InitMetrics() // once more changes nothing
	g.PrometheusListen, g.PrometheusServe = true, taken.Addr().String()
	if err := metrics.Start(); err == nil || !strings.Contains(err.Error(), "prometheus_serve") {
		t.Errorf("Start at a port that is taken returned %v", err)
	}
	taken.Close()
	for range 2 {
		if err := metrics.Start(); err != nil {
			t.Fatal(err)
		}
	}
	g.PrometheusServe = "127.0.0.1:1"
	if err := metrics.Start(); err == nil {
		t.Error("a second address was taken")
	}
	response, err := http.Get("http://" + taken.Addr().String() + "/metrics")
	if err != nil || response.StatusCode != http.StatusOK {
		t.Errorf("/metrics answers %v, %v", response, err)
	} else {
		response.Body.Close()
	}
	if err := kis.Pool().Close(); err != nil {
		t.Error(err)
	}
	if _, err := net.Dial("tcp", taken.Addr().String()); err == nil {
		t.Error("it still listens after the pool was closed")
	}
}

// TestNames compares what is registered with KisFlow's names.
func TestNames(t *testing.T) {
	config.GlobalConfig.EnableProm = true
	t.Cleanup(func() { *config.GlobalConfig = config.KisGlobalConfig{} })
	m := metrics.Current()
	for name, c := range map[string]prometheus.Collector{
		common.CounterKisflowDataTotalName: m.DataTotal, common.GamgeFlowDataTotalName: m.FlowDataTotal,
		common.GangeFlowScheCntsName: m.FlowScheduleCntsToTal, common.GangeFuncScheCntsName: m.FuncScheduleCntsTotal,
		common.HistogramFunctionDurationName: m.FunctionDuration, common.HistogramFlowDurationName: m.FlowDuration,
	} {
		descriptions := make(chan *prometheus.Desc, 1)
		c.Describe(descriptions)
		if text := (<-descriptions).String(); !strings.Contains(text, `"`+name+`"`) {
			t.Errorf("%s is registered as %s", name, text)
		}
	}
}
