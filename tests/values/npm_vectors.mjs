// How npm_vectors.json was recorded: node npm_vectors.mjs > npm_vectors.json, beside an installed convex 1.48.0.
import { convexToJson, jsonToConvex, compareValues, getConvexSize, getDocumentSize } from "convex/values";
const buf=(...b)=>new Uint8Array(b).buffer;
const vals=[null,true,false,0,-0,1,-1,1.5,0.1,1e21,1e-7,5e-324,1.7976931348623157e308,123456789012345680000,1e16,NaN,Infinity,-Infinity,
 0n,1n,-1n,9223372036854775807n,-9223372036854775808n,"","a","é","\uffff","😀","a\u0000b","line\nbreak \u2028 \"q\" \\ / \u007f",
 buf(),buf(0,1,255),[],[1],[1,"x",null],[[],[[]]],{},{a:1},{b:2,a:1},{"":null},{"with space":true,"Z":1n,"a":[{x:buf(7)}]}, {n:NaN,z:-0}];
const out={source:"npm convex 1.48.0 under Node "+process.version+": convexToJson, getConvexSize, getDocumentSize, compareValues",
 values:vals.map(v=>({json:JSON.stringify(convexToJson(v)),size:getConvexSize(v)})),
 documents:[{},{a:1},{name:"é",tags:["x"]}].map(d=>({json:JSON.stringify(convexToJson(d)),size:getDocumentSize(d)})),
 sorted:[...vals].sort(compareValues).map(v=>JSON.stringify(convexToJson(v)))};
console.log(JSON.stringify(out,null,1));
