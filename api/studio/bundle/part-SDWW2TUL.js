import{n as a,o as b}from"./part-NJU22VIZ.js";import"./part-W2SWEIEF.js";import"./part-AYHZPDM5.js";export{b as SubagentDiscoveryHandle,a as SubagentHandle};
