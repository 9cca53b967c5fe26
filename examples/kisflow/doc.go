// Package kisflow tests the KisFlow programs in the folders beside it, locally and on a cluster. They are KisFlow's own usage
// cases, written anew: of KisFlow's, only the imports are ours.
package kisflow
