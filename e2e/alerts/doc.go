// Package alerts tries the alerts of deploy/prometheus on a real Prometheus: each rule by deploy/prometheus/alerts_test.yml, in the time
// that samples there have, and what is most of the trouble on a cluster of processes that it scrapes, where minutes are seconds.
//
// prometheus and promtool are looked for on the PATH and where make tools-prometheus puts them. Without them the tests are skipped;
// make alerts has them there.
package alerts
