// Package alerts tries the alerts of deploy/prometheus on a real Prometheus. TestCases runs deploy/prometheus/alerts_test.yml with
// promtool, which computes with the times of samples, not with a clock. TestCluster lets a Prometheus scrape a cluster of processes,
// with seconds in place of the minutes of the rules, and causes the most common troubles.
//
// The tests look for prometheus and promtool on the PATH, and in the folder into which make tools-prometheus puts them. Without these
// programs they are skipped. make alerts gets the programs first.
package alerts
