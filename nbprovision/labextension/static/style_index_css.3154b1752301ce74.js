"use strict";(self.rspackChunknbprovision=self.rspackChunknbprovision||[]).push([["style_index_css"],{"./node_modules/css-loader/dist/cjs.js!./style/index.css"(e,o,t){var r=t("./node_modules/css-loader/dist/runtime/noSourceMaps.js"),n=t.n(r),s=t("./node_modules/css-loader/dist/runtime/api.js"),i=(t.n(s))()(n());i.push([e.id,`.nbprovision-item {
  border: 0;
  padding: 0 6px;
  background: none;
  color: var(--jp-ui-font-color1);
  font: inherit;
  cursor: pointer;
}

.nbprovision-item.nbprovision-failed,
.nbprovision-state.nbprovision-failed,
.nbprovision-message {
  color: var(--jp-error-color1);
  font-weight: bold;
}

.nbprovision-panel {
  padding: 8px 12px;
  overflow: auto;
  color: var(--jp-ui-font-color1);
  background: var(--jp-layout-color1);
  overflow-wrap: anywhere;
}

.nbprovision-panel p {
  margin: 4px 0;
  white-space: pre-wrap;
}

.nbprovision-tasks {
  padding: 0;
  list-style: none;
}

.nbprovision-task {
  padding: 3px 0;
  border-bottom: 1px solid var(--jp-border-color2);
}

.nbprovision-task-status {
  display: inline-block;
  min-width: 70px;
  color: var(--jp-ui-font-color2);
}

.nbprovision-task-failed .nbprovision-task-status {
  color: var(--jp-error-color1);
}

.nbprovision-task-detail {
  margin-left: 6px;
  color: var(--jp-ui-font-color2);
}

.nbprovision-task progress {
  display: block;
  width: 100%;
}

.nbprovision-error,
.nbprovision-lost {
  margin: 8px 0;
  padding: 4px 8px;
  border-left: 3px solid var(--jp-error-color1);
}

.nbprovision-lost {
  border-color: var(--jp-warn-color1);
}

.nbprovision-icon::before {
  content: '⚙';
}
`,""]),t.d(o,{},{A:i})},"./node_modules/css-loader/dist/runtime/api.js"(e){e.exports=function(e){var o=[];return o.toString=function(){return this.map(function(o){var t="",r=void 0!==o[5];return o[4]&&(t+="@supports (".concat(o[4],") {")),o[2]&&(t+="@media ".concat(o[2]," {")),r&&(t+="@layer".concat(o[5].length>0?" ".concat(o[5]):""," {")),t+=e(o),r&&(t+="}"),o[2]&&(t+="}"),o[4]&&(t+="}"),t}).join("")},o.i=function(e,t,r,n,s){"string"==typeof e&&(e=[[null,e,void 0]]);var i={};if(r)for(var a=0;a<this.length;a++){var l=this[a][0];null!=l&&(i[l]=!0)}for(var d=0;d<e.length;d++){var c=[].concat(e[d]);r&&i[c[0]]||(void 0!==s&&(void 0===c[5]||(c[1]="@layer".concat(c[5].length>0?" ".concat(c[5]):""," {").concat(c[1],"}")),c[5]=s),t&&(c[2]&&(c[1]="@media ".concat(c[2]," {").concat(c[1],"}")),c[2]=t),n&&(c[4]?(c[1]="@supports (".concat(c[4],") {").concat(c[1],"}"),c[4]=n):c[4]="".concat(n)),o.push(c))}},o}},"./node_modules/css-loader/dist/runtime/noSourceMaps.js"(e){e.exports=function(e){return e[1]}},"./style/index.css"(e,o,t){t.r(o);var r=t("./node_modules/style-loader/dist/runtime/injectStylesIntoStyleTag.js"),n=t.n(r),s=t("./node_modules/style-loader/dist/runtime/styleDomAPI.js"),i=t.n(s),a=t("./node_modules/style-loader/dist/runtime/insertBySelector.js"),l=t.n(a),d=t("./node_modules/style-loader/dist/runtime/setAttributesWithoutAttributes.js"),c=t.n(d),u=t("./node_modules/style-loader/dist/runtime/insertStyleElement.js"),p=t.n(u),m=t("./node_modules/style-loader/dist/runtime/styleTagTransform.js"),v=t.n(m),f=t("./node_modules/css-loader/dist/cjs.js!./style/index.css"),y={};y.styleTagTransform=v(),y.setAttributes=c(),y.insert=l().bind(null,"head"),y.domAPI=i(),y.insertStyleElement=p(),n()(f.A,y);let b=f.A&&f.A.locals?f.A.locals:void 0;t.d(o,{},{default:b})},"./node_modules/style-loader/dist/runtime/injectStylesIntoStyleTag.js"(e){var o=[];function t(e){for(var t=-1,r=0;r<o.length;r++)if(o[r].identifier===e){t=r;break}return t}function r(e,r){for(var n={},s=[],i=0;i<e.length;i++){var a=e[i],l=r.base?a[0]+r.base:a[0],d=n[l]||0,c="".concat(l," ").concat(d);n[l]=d+1;var u=t(c),p={css:a[1],media:a[2],sourceMap:a[3],supports:a[4],layer:a[5]};if(-1!==u)o[u].references++,o[u].updater(p);else{var m=function(e,o){var t=o.domAPI(o);return t.update(e),function(o){o?(o.css!==e.css||o.media!==e.media||o.sourceMap!==e.sourceMap||o.supports!==e.supports||o.layer!==e.layer)&&t.update(e=o):t.remove()}}(p,r);r.byIndex=i,o.splice(i,0,{identifier:c,updater:m,references:1})}s.push(c)}return s}e.exports=function(e,n){var s=r(e=e||[],n=n||{});return function(e){e=e||[];for(var i=0;i<s.length;i++){var a=t(s[i]);o[a].references--}for(var l=r(e,n),d=0;d<s.length;d++){var c=t(s[d]);0===o[c].references&&(o[c].updater(),o.splice(c,1))}s=l}}},"./node_modules/style-loader/dist/runtime/insertBySelector.js"(e){var o={};e.exports=function(e,t){var r=function(e){if(void 0===o[e]){var t=document.querySelector(e);if(window.HTMLIFrameElement&&t instanceof window.HTMLIFrameElement)try{t=t.contentDocument.head}catch(e){t=null}o[e]=t}return o[e]}(e);if(!r)throw Error("Couldn't find a style target. This probably means that the value for the 'insert' parameter is invalid.");r.appendChild(t)}},"./node_modules/style-loader/dist/runtime/insertStyleElement.js"(e){e.exports=function(e){var o=document.createElement("style");return e.setAttributes(o,e.attributes),e.insert(o,e.options),o}},"./node_modules/style-loader/dist/runtime/setAttributesWithoutAttributes.js"(e,o,t){e.exports=function(e){var o=t.nc;o&&e.setAttribute("nonce",o)}},"./node_modules/style-loader/dist/runtime/styleDomAPI.js"(e){e.exports=function(e){if("u"<typeof document)return{update:function(){},remove:function(){}};var o=e.insertStyleElement(e);return{update:function(t){var r,n,s;r="",t.supports&&(r+="@supports (".concat(t.supports,") {")),t.media&&(r+="@media ".concat(t.media," {")),(n=void 0!==t.layer)&&(r+="@layer".concat(t.layer.length>0?" ".concat(t.layer):""," {")),r+=t.css,n&&(r+="}"),t.media&&(r+="}"),t.supports&&(r+="}"),(s=t.sourceMap)&&"u">typeof btoa&&(r+="\n/*# sourceMappingURL=data:application/json;base64,".concat(btoa(unescape(encodeURIComponent(JSON.stringify(s))))," */")),e.styleTagTransform(r,o,e.options)},remove:function(){var e;null===(e=o).parentNode||e.parentNode.removeChild(e)}}}},"./node_modules/style-loader/dist/runtime/styleTagTransform.js"(e){e.exports=function(e,o){if(o.styleSheet)o.styleSheet.cssText=e;else{for(;o.firstChild;)o.removeChild(o.firstChild);o.appendChild(document.createTextNode(e))}}}}]);